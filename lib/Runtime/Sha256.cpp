//===- Sha256.cpp - the hash of files in a bundle ---------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// libcrypto's block function uses the processor's SHA instructions. The low-level
// interface, deprecated in OpenSSL 3, is used on purpose: linked statically it costs a
// few kilobytes, where the EVP interface draws in the whole library.
//
//===----------------------------------------------------------------------===//
#include "lowbit/Runtime/Sha256.h"

#define OPENSSL_API_COMPAT 0x10100000L
#include <openssl/sha.h>

namespace lowbit {

struct Sha256::State {
  SHA256_CTX context;
};

Sha256::Sha256() : state(new State) { SHA256_Init(&state->context); }
Sha256::~Sha256() = default;

void Sha256::update(const void *data, size_t bytes) { SHA256_Update(&state->context, data, bytes); }

std::string Sha256::finish() {
  unsigned char digest[SHA256_DIGEST_LENGTH];
  SHA256_Final(digest, &state->context);
  std::string text;
  for (unsigned char byte : digest) {
    text += "0123456789abcdef"[byte >> 4];
    text += "0123456789abcdef"[byte & 15];
  }
  return text;
}

std::string sha256(const void *data, size_t bytes) {
  Sha256 hash;
  hash.update(data, bytes);
  return hash.finish();
}

} // namespace lowbit
