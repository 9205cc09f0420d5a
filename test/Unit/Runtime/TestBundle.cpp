//===- TestBundle.cpp - a bundle around TestModel.c -------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "TestBundle.h"

#include "lowbit/Runtime/Safetensors.h"
#include "lowbit/Runtime/Sha256.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sys/stat.h>

namespace lowbit::test {

const std::string &temporaryFolder() {
  struct Folder {
    Folder() {
      path = (std::filesystem::temp_directory_path() / "lowbit-test-XXXXXX").string();
      if (!mkdtemp(path.data()))
        path = "no-temporary-folder";
      path += '/';
    }
    ~Folder() {
      std::error_code ignored;
      std::filesystem::remove_all(path, ignored);
    }
    std::string path;
  };
  static Folder folder;
  return folder.path;
}

std::string readFile(const std::string &path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
}

bool writeFile(const std::string &path, const std::string &text) {
  std::ofstream file(path, std::ios::binary);
  file.write(text.data(), std::streamsize(text.size()));
  file.close();
  return bool(file);
}

static std::string fileEntry(const std::string &path, const std::string &name) {
  std::string data = readFile(path + "/" + name);
  return "\"" + name + "\": {\"sha256\": \"" + sha256(data.data(), data.size()) +
         "\", \"bytes\": " + std::to_string(data.size()) + "}";
}

std::string testManifest(const std::string &path) {
  return R"({
  "schema": "lowbit.bundle/1",
  "abi": 3,
  "producer": "test",
  "target": "cpu",
  "arch": "x86-64",
  "isa": ["x86-64", "x86-64-v2", "future"],
  "files": {)" +
         fileEntry(path, "model.so") + ", " + fileEntry(path, "weights.safetensors") + R"(},
  "weights_offset": 4096,
  "inputs": [
    {"name": "x", "dtype": "f32", "dims": [-1, 4], "symbols": ["N", ""]},
    {"name": "mode", "dtype": "i64", "dims": [], "symbols": []}
  ],
  "outputs": [
    {"name": "y", "dtype": "f32", "dims": [-1, 4], "symbols": ["N", ""]},
    {"name": "z", "dtype": "f32", "dims": [-1, 4], "symbols": ["N", ""]},
    {"name": "total", "dtype": "f32", "dims": [], "symbols": []}
  ],
  "observers": [{"id": 3, "name": "y"}]
}
)";
}

std::string writeTestBundle(const std::string &path) {
  mkdir(path.c_str(), 0777);
  SafetensorsWriter writer;
  writer.add("w", "F32", {4}, weights, sizeof weights);
  std::string error;
  if (!writer.write(path + "/weights.safetensors", error))
    return error;
  std::string code = readFile(LOWBIT_TEST_MODEL);
  if (code.empty())
    return "cannot read " LOWBIT_TEST_MODEL;
  if (!writeFile(path + "/model.so", code) ||
      !writeFile(path + "/manifest.json", testManifest(path)))
    return "cannot write to " + path;
  return "";
}

} // namespace lowbit::test
