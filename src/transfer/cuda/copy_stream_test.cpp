// The driver's loading and its errors; batches of copies. On the stand-in, and on a GPU (CudaGpu).
#include "transfer/cuda/copy_stream.h"

#include <gtest/gtest.h>

#include "transfer/cuda/cuda_for_tests.h"

namespace baton::transfer::cuda {
namespace {

constexpr Duration kLong = 20s;

// Another name of the stand-in, so that the driver is loaded anew.
std::string Alias(const std::string& how) {
  std::string file = BATON_CUDA_MOCK;
  return file.insert(file.rfind('/'), how);
}

TEST(CudaDriver, SaysWhatIsMissing) {
  MockCuda mock;
  setenv(kLibraryVariable, "/nonexistent/libcuda.so.1", 1);
  Status s = Driver::Get().status();
  EXPECT_EQ(s.code(), Code::kUnsupported);
  EXPECT_NE(s.message().find("/nonexistent/libcuda.so.1"), std::string::npos) << s.message();
  EXPECT_NE(s.message().find("install the NVIDIA driver"), std::string::npos) << s.message();
  setenv(kLibraryVariable, "libm.so.6", 1);
  EXPECT_NE(Driver::Get().status().message().find("no CUDA driver"), std::string::npos);
  setenv(kLibraryVariable, Alias("/.").c_str(), 1);
  mock.Set("version", 10020, 12080);
  s = Driver::Get().status();
  EXPECT_NE(s.message().find("10.2"), std::string::npos) << s.message();
  EXPECT_NE(s.message().find("update the NVIDIA driver"), std::string::npos) << s.message();
  mock.Set("version", 12080, 12080);
  mock.Set("no_init", 1);
  s = Driver::Get().status();
  EXPECT_NE(s.message().find("cuInit"), std::string::npos) << s.message();
  EXPECT_NE(s.message().find("CUDA_ERROR_NO_DEVICE"), std::string::npos) << s.message();
  EXPECT_NE(s.message().find("nvidia-smi"), std::string::npos) << s.message();
  mock.Set("no_init", 0);
  mock.Set("devices", 0, 2);
  EXPECT_NE(Driver::Get().status().message().find("CUDA_VISIBLE_DEVICES"), std::string::npos);
  mock.Set("devices", 2, 2);
  ASSERT_TRUE(Driver::Get().ok()) << Driver::Get().status().ToString();
  s = (*Driver::Get())->Bind(2);
  EXPECT_NE(s.message().find("device 2 does not exist"), std::string::npos) << s.message();
}

// Random copies between pinned and device memory, aligned and not, small and large.
void RunBatches(CopyStream& stream, Driver& driver, int device, bool by_engine) {
  constexpr size_t kBytes = 4 << 20;
  auto one = DeviceBuffer::Create(device, kBytes), two = DeviceBuffer::Create(device, kBytes);
  ASSERT_TRUE(one.ok() && two.ok());
  ASSERT_TRUE(driver.Bind(device).ok());
  auto pinned = PinnedBuffer::Create(driver, kBytes);
  ASSERT_TRUE(pinned.ok());
  std::vector<std::byte> expected = RandomBytes(kBytes, 3), zeros(kBytes);
  Upload(one->span(), expected);
  std::mt19937 random(7);
  for (int round = 0; round < 4; ++round) {
    Upload(two->span(), zeros);
    std::memset(pinned->data(), 0, kBytes);
    // Pieces that cover everything once, in random order.
    struct Piece { size_t offset, bytes; };
    std::vector<Piece> pieces;
    for (size_t at = 0; at < kBytes;) {
      size_t bytes = round == 0 ? 4096 : 1 + random() % (round == 1 ? 40000 : 700000);
      if (random() % 2 && round != 1) bytes = (bytes + 15) / 16 * 16;
      bytes = std::min(bytes, kBytes - at);
      pieces.push_back({at, bytes});
      at += bytes;
    }
    std::shuffle(pieces.begin(), pieces.end(), random);
    uint64_t ticket = 0;
    for (const Piece& piece : pieces)
      ticket = stream.Add(AsDevice(pinned->data()) + piece.offset, AsDevice(one->span().data) + piece.offset, piece.bytes, by_engine ? 0 : CopyStream::kKernelBytes);
    ASSERT_TRUE(stream.Wait(ticket, Now() + kLong).ok());
    ASSERT_EQ(std::memcmp(pinned->data(), expected.data(), kBytes), 0) << "round " << round;
    for (const Piece& piece : pieces) {
      ticket = stream.Add(AsDevice(two->span().data) + piece.offset, AsDevice(pinned->data()) + piece.offset, piece.bytes, by_engine ? 0 : CopyStream::kKernelBytes);
      if (random() % 20 == 0) stream.Flush();
    }
    stream.Flush();
    ASSERT_TRUE(stream.Wait(ticket, Now() + kLong).ok());
    ASSERT_TRUE(stream.Idle());
    ASSERT_EQ(Download(two->span()), expected) << "round " << round;
  }
}

TEST(CudaCopyStream, CopiesBatchesByteExact) {
  MockCuda mock;
  Driver& driver = **Driver::Get();
  for (const bool kernel : {true, false}) {
    mock.Set("no_kernel", !kernel);
    auto stream = *CopyStream::Create(driver, 1);
    EXPECT_EQ(stream->has_kernel(), kernel);
    const long before = mock.Get("kernel_copies");
    RunBatches(*stream, driver, 1, false);
    EXPECT_EQ(mock.Get("kernel_copies") > before, kernel);
  }
  EXPECT_EQ(mock.Get("allocated"), 0);
  EXPECT_EQ(mock.Get("streams"), 0);
}

TEST(CudaCopyStream, NothingIsDoneBeforeItsEvent) {
  MockCuda mock;
  Driver& driver = **Driver::Get();
  auto stream = *CopyStream::Create(driver, 0);
  auto device = *DeviceBuffer::Create(0, 4096);
  auto pinned = *PinnedBuffer::Create(driver, 4096);
  mock.Set("stall", 1);
  const uint64_t ticket = stream->Add(AsDevice(device.span().data), AsDevice(pinned.data()), 4096);
  EXPECT_FALSE(stream->Done(ticket));
  stream->Flush();
  EXPECT_FALSE(stream->Done(ticket));
  EXPECT_EQ(stream->Wait(ticket, Now() + 20ms).code(), Code::kDeadlineExceeded);
  mock.Set("stall", 0);
  EXPECT_TRUE(stream->Wait(ticket, Now() + kLong).ok());
}

TEST(CudaCopyStream, AnErrorEndsEverything) {
  MockCuda mock;
  Driver& driver = **Driver::Get();
  auto stream = *CopyStream::Create(driver, 0);
  auto device = *DeviceBuffer::Create(0, 4096);
  std::vector<std::byte> pageable(4096);
  const uint64_t ticket = stream->Add(AsDevice(device.span().data), AsDevice(pageable.data()), 4096);
  stream->Flush();
  EXPECT_TRUE(stream->Done(ticket));
  EXPECT_NE(stream->status().message().find("cuMemcpyAsync: CUDA_ERROR_INVALID_VALUE"), std::string::npos)
      << stream->status().message();
  EXPECT_TRUE(stream->Done(stream->Add(1, 2, 3)));
}

// What is flushed while the device is busy waits for more, but not for ever.
TEST(CudaCopyStream, BatchesGrowWhileTheDeviceIsBusy) {
  MockCuda mock;
  Driver& driver = **Driver::Get();
  auto stream = *CopyStream::Create(driver, 0);
  auto device = *DeviceBuffer::Create(0, 1 << 20);
  auto pinned = *PinnedBuffer::Create(driver, 1 << 20);
  const std::vector<std::byte> expected = RandomBytes(1 << 20, 4);
  std::memcpy(pinned.data(), expected.data(), expected.size());
  uint64_t next = 0, ticket = 0;
  const auto flush = [&](uint32_t copies) {
    for (; copies > 0; --copies, next = (next + 1024) % (1 << 20))
      ticket = stream->Add(AsDevice(device.span().data) + next, AsDevice(pinned.data()) + next, 1024);
    stream->Flush();
    return mock.Get("launches");
  };
  const long before = mock.Get("launches");
  mock.Set("stall", 1);
  EXPECT_EQ(flush(2), before + 1) << "an idle device gets what there is";
  for (int i = 0; i < 10; ++i) EXPECT_EQ(flush(10), before + 1) << "a busy one waits for a batch";
  EXPECT_EQ(flush(500), before + 2) << "that is worth it";
  EXPECT_EQ(flush(600), before + 3);
  EXPECT_EQ(flush(1000), before + 3) << "three under way are enough";
  EXPECT_FALSE(stream->Done(ticket));
  mock.Set("stall", 0);
  for (const TimePoint end = Now() + kLong; !stream->Done(ticket) && Now() < end;) stream->Flush();
  EXPECT_EQ(mock.Get("launches"), before + 4);
  EXPECT_TRUE(stream->Idle());
  EXPECT_EQ(Download(device.span()), expected);
}

TEST(CudaCopyStream, MoreBatchesThanEvents) {
  MockCuda mock;
  Driver& driver = **Driver::Get();
  auto stream = *CopyStream::Create(driver, 0);
  auto device = *DeviceBuffer::Create(0, 1 << 20);
  auto pinned = *PinnedBuffer::Create(driver, 1 << 20);
  std::vector<std::byte> expected = RandomBytes(1 << 20, 1);
  std::memcpy(pinned.data(), expected.data(), expected.size());
  mock.Set("stall", 1);
  uint64_t ticket = 0;
  // Full batches are not held back: there are more than events, and more copies than the kernel's list has room for.
  constexpr size_t kSmall = 16, kCopies = 70 * CopyStream::kBatch;
  for (size_t i = 0; i < kCopies; ++i) {
    const size_t at = i * kSmall % (1 << 20);
    ticket = stream->Add(AsDevice(device.span().data) + at, AsDevice(pinned.data()) + at, kSmall);
  }
  EXPECT_FALSE(stream->Done(ticket));
  mock.Set("stall", 0);
  EXPECT_TRUE(stream->Wait(ticket, Now() + kLong).ok());
  EXPECT_EQ(Download(device.span()), expected);
}

TEST(CudaGpuCopyStream, CopiesBatchesByteExact) {
  if (const std::string why = MissingGpus(1); !why.empty()) GTEST_SKIP() << why;
  Driver& driver = **Driver::Get();
  for (int device = 0; device < std::min(driver.device_count(), 2); ++device) {
    auto stream = *CopyStream::Create(driver, device);
    EXPECT_TRUE(stream->has_kernel());
    RunBatches(*stream, driver, device, false);
    RunBatches(*stream, driver, device, true);
  }
}

}  // namespace
}  // namespace baton::transfer::cuda
