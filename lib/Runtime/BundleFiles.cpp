//===- BundleFiles.cpp - the files of a bundle, checked and loaded ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "BundleFiles.h"

#include "Failure.h"
#include "lowbit/Runtime/Safetensors.h"
#include "lowbit/Runtime/Sha256.h"

#include <atomic>
#include <cerrno>
#include <cstring>
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

namespace lowbit::runtime {

namespace {

/// An open regular file.
class File {
public:
  explicit File(const std::string &path) : path(path) {
    // Without O_NONBLOCK opening a named pipe would wait for its other end.
    fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat info;
    if (fd < 0 || fstat(fd, &info) != 0) {
      int code = errno;
      close();
      fail(LOWBIT_INVALID, "cannot open " + inQuotes(path) + ": " + std::strerror(code));
    }
    if (!S_ISREG(info.st_mode)) {
      close();
      fail(LOWBIT_INVALID, inQuotes(path) + " is not a regular file");
    }
    size = info.st_size;
  }
  ~File() { close(); }
  File(const File &) = delete;
  File &operator=(const File &) = delete;

  /// Fills `buffer` as far as the file goes; returns the bytes read.
  size_t read(void *buffer, size_t bytes) {
    size_t got = 0;
    while (got < bytes) {
      ssize_t n = ::read(fd, static_cast<char *>(buffer) + got, bytes - got);
      if (n < 0 && errno == EINTR)
        continue;
      if (n < 0)
        fail(LOWBIT_INVALID, "cannot read " + inQuotes(path) + ": " + std::strerror(errno));
      if (n == 0)
        break;
      got += size_t(n);
    }
    return got;
  }

  void checkSize(const FileInfo &expected) const {
    if (size != expected.bytes)
      fail(LOWBIT_INVALID, inQuotes(path) + " has " + std::to_string(size) +
                               " bytes, the manifest says " + std::to_string(expected.bytes) +
                               ": the bundle is damaged");
  }
  void checkHash(const std::string &found, const FileInfo &expected) const {
    if (found != expected.sha256)
      fail(LOWBIT_INVALID,
           inQuotes(path) +
               " does not have the hash that the manifest says: the bundle is damaged");
  }

  const std::string path;
  int fd = -1;
  int64_t size = 0;

private:
  void close() {
    if (fd >= 0)
      ::close(fd);
  }
};

} // namespace

std::string readText(const std::string &path, int64_t limit) {
  File file(path);
  if (file.size > limit)
    fail(LOWBIT_INVALID, inQuotes(path) + " has " + std::to_string(file.size) +
                             " bytes, more than the " + std::to_string(limit) + " allowed");
  std::string text(size_t(file.size), '\0');
  text.resize(file.read(text.data(), text.size()));
  return text;
}

void checkFile(const std::string &path, const FileInfo &expected) {
  File file(path);
  file.checkSize(expected);
  Sha256 hash;
  std::vector<char> buffer(1 << 20);
  while (size_t got = file.read(buffer.data(), buffer.size()))
    hash.update(buffer.data(), got);
  file.checkHash(hash.finish(), expected);
}

std::optional<int64_t> MappedWeights::bytesFrom(const void *address) const {
  int64_t at = static_cast<const char *>(address) - static_cast<const char *>(data());
  auto next = ends.upper_bound(at);
  if (at < 0 || next == ends.begin() || std::prev(next)->second < at)
    return std::nullopt;
  return std::prev(next)->second - at;
}

MappedWeights::~MappedWeights() {
  if (base)
    munmap(base, size);
}

void MappedWeights::open(const std::string &path, const FileInfo &expected, int64_t dataOffset) {
  File file(path);
  file.checkSize(expected);
  // The manifest puts the data at 64 or more bytes, so the file is not empty.
  void *mapping = mmap(nullptr, size_t(file.size), PROT_READ, MAP_PRIVATE, file.fd, 0);
  if (mapping == MAP_FAILED)
    fail(errno == ENOMEM ? LOWBIT_NO_MEMORY : LOWBIT_INVALID,
         "cannot map " + inQuotes(path) + ": " + std::strerror(errno));
  base = mapping;
  size = size_t(file.size);
  offset = dataOffset;
  file.checkHash(sha256(base, size), expected);
  uint64_t header;
  std::memcpy(&header, base, sizeof header);
  if (header != uint64_t(dataOffset) - 8)
    fail(LOWBIT_INVALID, "manifest.json: weights_offset is " + std::to_string(dataOffset) +
                             ", but the header of " + inQuotes(path) + " says otherwise");
  std::string error;
  std::optional<SafetensorsHeader> parsed = parseSafetensors(base, size, error);
  if (!parsed)
    fail(LOWBIT_INVALID, inQuotes(path) + ": " + error);
  for (const SafetensorsEntry &entry : parsed->entries)
    ends[int64_t(entry.begin)] = int64_t(entry.end);
}

/// An executable file in memory.
static int createMemoryFile() {
#ifndef MFD_EXEC
  constexpr unsigned MFD_EXEC = 0x10;
#endif
  // Kernels since 6.3 may demand the flag, older ones refuse it.
  int fd = memfd_create("lowbit-model", MFD_CLOEXEC | MFD_EXEC);
  if (fd < 0 && errno == EINVAL)
    fd = memfd_create("lowbit-model", MFD_CLOEXEC);
  if (fd < 0)
    fail(LOWBIT_NO_MEMORY, std::string("cannot create a file in memory for the model's code: ") +
                               std::strerror(errno));
  return fd;
}

static void writeAll(int fd, const char *data, size_t bytes) {
  while (bytes > 0) {
    ssize_t n = ::write(fd, data, bytes);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      fail(LOWBIT_NO_MEMORY,
           std::string("cannot copy the model's code to memory: ") + std::strerror(errno));
    data += n;
    bytes -= size_t(n);
  }
}

/// A path to a descriptor that this process has not used before. The loader knows libraries by path
/// and keeps some for ever (those linked with nodelete), whereas the system gives out the numbers
/// of descriptors again. So the path also spells a serial number, in slashes.
static std::string uniquePath(int fd) {
  static std::atomic<uint64_t> serial{0};
  std::string path = "/proc/self/fd";
  for (uint64_t rest = ++serial; rest != 0; rest >>= 1)
    path += rest & 1 ? "/./" : "//";
  return path + "/" + std::to_string(fd);
}

ModelLibrary::~ModelLibrary() {
  if (handle)
    dlclose(handle);
  if (copy >= 0)
    ::close(copy);
}

void ModelLibrary::open(const std::string &path, const FileInfo &expected) {
  File file(path);
  file.checkSize(expected);
  copy = createMemoryFile();
  // Hashed is what is copied, and what is copied is loaded.
  Sha256 hash;
  std::vector<char> buffer(1 << 20);
  for (int64_t left = file.size; left > 0;) {
    size_t got = file.read(buffer.data(), size_t(std::min<int64_t>(left, int64_t(buffer.size()))));
    if (got == 0)
      break;
    hash.update(buffer.data(), got);
    writeAll(copy, buffer.data(), got);
    left -= int64_t(got);
  }
  file.checkHash(hash.finish(), expected);

  handle = dlopen(uniquePath(copy).c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!handle) {
    const char *why = dlerror();
    fail(LOWBIT_INVALID, "cannot load " + inQuotes(path) + ": " + (why ? why : "unknown reason"));
  }
  auto symbol = [&](const char *name) {
    void *address = dlsym(handle, name);
    if (!address)
      fail(LOWBIT_INVALID, inQuotes(path) + " lacks the function " + name);
    return address;
  };
  auto abi = reinterpret_cast<int64_t (*)()>(symbol("lowbit_model_abi"));
  init = reinterpret_cast<decltype(init)>(symbol("lowbit_model_init"));
  run = reinterpret_cast<decltype(run)>(symbol("lowbit_model_run"));
  if (int64_t found = abi(); found != LOWBIT_MODEL_ABI)
    fail(LOWBIT_UNSUPPORTED, inQuotes(path) + " has ABI " + std::to_string(found) +
                                 ", this runtime has " + std::to_string(LOWBIT_MODEL_ABI));
}

} // namespace lowbit::runtime
