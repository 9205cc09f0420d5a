//===- Work.cpp - streams, events and graphs of the fake driver -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Work.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace fakecuda {

/// LOWBIT_FAKE_CUDA="version=11080,devices=0".
Driver::Driver() {
  const char *text = std::getenv("LOWBIT_FAKE_CUDA");
  std::string rest = text ? text : "";
  while (!rest.empty()) {
    std::string item = rest.substr(0, rest.find(','));
    rest.erase(0, item.size() + 1);
    size_t equals = item.find('=');
    if (equals != std::string::npos)
      options[item.substr(0, equals)] = std::atoll(item.c_str() + equals + 1);
  }
}

Driver &Driver::get() {
  static auto *driver = new Driver;
  return *driver;
}

int64_t Driver::option(const char *name, int64_t otherwise) const {
  auto found = options.find(name);
  return found == options.end() ? otherwise : found->second;
}

CUresult Driver::protocolError(const std::string &what, CUresult result) {
  std::fprintf(stderr, "fake CUDA driver: %s\n", what.c_str());
  ++counts["errors"];
  return result;
}

Stream *Driver::find(CUstream stream) {
  if (!stream || stream == legacyStream())
    return &legacy;
  auto *found = reinterpret_cast<Stream *>(stream);
  return streams.count(found) ? found : nullptr;
}

bool Driver::isPinned(const void *address, size_t bytes) const {
  auto *at = static_cast<const char *>(address);
  auto next = pinned.upper_bound(at);
  if (next == pinned.begin())
    return false;
  auto [begin, size] = *std::prev(next);
  return at + bytes <= begin + size;
}

CUresult Driver::verify(const Work &work) {
  if (work.kind == Work::Copy) {
    const void *ends[] = {work.to, work.taken ? nullptr : work.from};
    for (const void *end : ends)
      if (end && device.owns(end) && !device.holds(end, work.bytes))
        return protocolError("a copy of " + std::to_string(work.bytes) +
                             " bytes is not within live device memory");
    return CUDA_SUCCESS;
  }
  if (work.kind != Work::Launch)
    return CUDA_SUCCESS;
  const Function &function = *work.function;
  for (int i = 0; i < 3; ++i)
    if (work.grid[i] == 0 || work.grid[i] > (i ? 65535u : 2147483647u) || work.block[i] == 0)
      return protocolError("impossible grid for " + function.name);
  if (uint64_t(work.block[0]) * work.block[1] * work.block[2] > 1024)
    return protocolError("a block of more than 1024 threads for " + function.name);
  if (work.sharedBytes > function.sharedLimit)
    return protocolError(function.name + " was not allowed so much shared memory");
  for (int64_t value : work.values) {
    auto *address = reinterpret_cast<const void *>(value);
    if (device.owns(address) && !device.find(address).begin)
      return protocolError(function.name + " is given an address within freed memory");
  }
  return CUDA_SUCCESS;
}

CUresult Driver::add(CUstream handle, Work work) {
  if (sticky)
    return sticky;
  Stream *stream = find(handle);
  if (!stream)
    return protocolError("a stream that is none", invalidHandle);
  if (CUresult result = verify(work))
    return result;
  stream->work.push_back(std::move(work));
  ++stream->asked;
  return CUDA_SUCCESS;
}

CUresult Driver::perform(const Work &work) {
  Memory::Access access(device);
  return perform(work, access);
}

CUresult Driver::perform(const Work &work, Memory::Access &) {
  if (work.kind == Work::Copy) {
    std::memmove(work.to, work.taken ? work.taken->data() : work.from, work.bytes);
    return CUDA_SUCCESS;
  }
  ++counts["launches"];
  if (int64_t(++launches) == option("fail_launch", -1)) {
    std::fprintf(stderr, "fake CUDA driver: launch %d fails as it was told\n", int(launches));
    return CUDA_ERROR_ILLEGAL_ADDRESS;
  }
  lowbit_emu_launch launch = {};
  launch.size = sizeof launch;
  std::memcpy(launch.grid, work.grid, sizeof launch.grid);
  std::memcpy(launch.block, work.block, sizeof launch.block);
  launch.shared_bytes = work.sharedBytes;
  launch.seed = launches;
  std::vector<lowbit_emu_argument> arguments;
  for (int64_t value : work.values) {
    auto *address = reinterpret_cast<char *>(value);
    Range range = device.owns(address) ? device.find(address) : Range{};
    if (range.begin)
      arguments.push_back(
          {LOWBIT_EMU_READ_WRITE, 0, 0, address, uint64_t(range.begin + range.bytes - address)});
    else
      arguments.push_back({LOWBIT_EMU_I64, 0, value, nullptr, 0});
  }
  if (lowbit_emulator_run(work.function->emulator, work.function->name.c_str(), &launch,
                          arguments.data(), arguments.size()) == LOWBIT_OK)
    return CUDA_SUCCESS;
  return protocolError(std::string("a kernel failed: ") + lowbit_emulator_last_error(),
                       CUDA_ERROR_LAUNCH_FAILED);
}

CUresult Driver::advance(Stream &stream, uint64_t position) {
  while (stream.done < position && !stream.work.empty()) {
    Work work = std::move(stream.work.front());
    stream.work.pop_front();
    ++stream.done;
    if (sticky)
      continue;
    if (work.kind == Work::Wait) {
      if (work.other == &legacy || streams.count(work.other))
        advance(*work.other, work.position);
      continue;
    }
    CUresult result = verify(work);
    // Pinned memory on the host's side has to be there still.
    if (work.pinned && !isPinned(work.pinned, work.bytes))
      result = protocolError("pinned memory was freed before the copy was done");
    if (!result)
      result = perform(work);
    if (result)
      sticky = result;
  }
  return sticky;
}

CUresult Driver::drain() {
  advance(legacy, legacy.asked);
  for (Stream *stream : streams)
    advance(*stream, stream->asked);
  return sticky;
}

} // namespace fakecuda
