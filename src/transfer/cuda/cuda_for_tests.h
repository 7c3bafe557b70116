// For tests: the stand-in for CUDA's driver (tests/cuda_mock), or a real GPU where there is one.
#pragma once

#include <dlfcn.h>

#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "transfer/cuda/memory.h"

namespace baton::transfer::cuda {

// While it lives, Driver::Get() is the stand-in's, here and in processes that are started.
class MockCuda {
 public:
  // `settings`: of processes that are started, as in tests/cuda_mock/cuda_mock.cpp.
  explicit MockCuda(const char* settings = "") {
    setenv(kLibraryVariable, BATON_CUDA_MOCK, 1);
    setenv("BATON_CUDA_MOCK_SETTINGS", settings, 1);
    library_ = dlopen(BATON_CUDA_MOCK, RTLD_NOW | RTLD_LOCAL);
    BATON_CHECK(library_, "{}", dlerror());
  }
  ~MockCuda() {
    for (const auto& [name, value] : changed_) Call(name.c_str(), value);
    unsetenv(kLibraryVariable);
    unsetenv("BATON_CUDA_MOCK_SETTINGS");
  }
  MockCuda(const MockCuda&) = delete;
  MockCuda& operator=(const MockCuda&) = delete;

  // Set back to `usual` at the end.
  void Set(const char* name, long value, long usual = 0) {
    changed_.emplace_back(name, usual);
    Call(name, value);
  }
  long Get(const char* name) const {
    return reinterpret_cast<long (*)(const char*)>(dlsym(library_, "cuda_mock_get"))(name);
  }

 private:
  void Call(const char* name, long value) const {
    reinterpret_cast<void (*)(const char*, long)>(dlsym(library_, "cuda_mock_set"))(name, value);
  }
  void* library_ = nullptr;
  std::vector<std::pair<std::string, long>> changed_;
};

// Why a test for real GPUs cannot run here; empty when it can.
inline std::string MissingGpus(int count) {
  const Result<Driver*> driver = Driver::Get();
  if (!driver.ok()) return driver.status().message();
  const int found = (*driver)->device_count();
  return found < count ? fmt::format("{} GPUs are needed, {} are visible", count, found) : std::string();
}

inline std::vector<std::byte> RandomBytes(size_t bytes, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<std::byte> result(bytes);
  for (size_t i = 0; i + 8 <= bytes; i += 8) {
    const uint64_t word = random();
    std::memcpy(result.data() + i, &word, 8);
  }
  return result;
}

inline MemorySpan SpanOf(std::vector<std::byte>& bytes) { return {bytes.data(), bytes.size()}; }

inline std::vector<std::byte> Download(MemorySpan memory) {
  std::vector<std::byte> bytes(memory.size_bytes);
  const Status s = CopyNow(SpanOf(bytes), memory, Now() + std::chrono::seconds(20));
  BATON_CHECK(s.ok(), "{}", s.ToString());
  return bytes;
}

inline void Upload(MemorySpan memory, std::vector<std::byte>& bytes) {
  const Status s = CopyNow(memory, SpanOf(bytes), Now() + std::chrono::seconds(20));
  BATON_CHECK(s.ok(), "{}", s.ToString());
}

}  // namespace baton::transfer::cuda
