#include "transfer/cuda/copy_stream.h"

#include <algorithm>
#include <thread>

#include "common/log.h"
#include "transfer/cuda/copy_kernel.h"

namespace baton::transfer::cuda {
namespace {

constexpr uint64_t kVector = 16;           // bytes that a thread of the kernel moves at a time
constexpr unsigned kThreads = 256;
constexpr uint64_t kBlockBytes = 4 * kThreads * kVector;  // of one turn of a block's unrolled loop
constexpr Duration kClosingWait = 2s;
// A launch costs 5 us: as much as its start and its end leave the device idle, and again of the processor.
// Batches of so many bytes or copies are worth it while others are under way, of which there is no use
// in more than a few. (Two H200: 64 MiB in launches of 4 MiB go at 270 GB/s, of 16 MiB at 340, in one at 370.)
constexpr uint64_t kWorthBytes = 16 << 20;
constexpr uint32_t kWorthCopies = 512;
constexpr uint32_t kMostUnderWay = 3;

}  // namespace

Result<std::unique_ptr<CopyStream>> CopyStream::Create(Driver& driver, int ordinal, bool kernel) {
  std::unique_ptr<CopyStream> stream(new CopyStream(driver, ordinal));
  if (Status s = stream->Open(kernel); !s.ok()) return s.Prefixed(fmt::format("CUDA device {}", ordinal));
  return stream;
}

Status CopyStream::Open(bool kernel) {
  if (Status s = driver_.Bind(ordinal_); !s.ok()) return s;
  const Api& api = driver_.api();
  for (StreamHandle*& stream : streams_)
    if (Status s = driver_.Check(api.StreamCreate(&stream, kStreamNonBlocking), "cuStreamCreate"); !s.ok()) return s;
  for (Mark& mark : marks_)
    if (Status s = driver_.Check(api.EventCreate(&mark.event, kEventDisableTiming), "cuEventCreate"); !s.ok()) return s;
  Result<PinnedBuffer> list = PinnedBuffer::Create(driver_, kListEntries * sizeof(Copy));
  if (!list.ok()) return list.status();
  list_ = *std::move(list);
  if (!kernel) return Status::Ok();
  // Pinned memory is made in whatever context there is; a module works only in the one it is loaded in.
  if (Status s = driver_.Bind(ordinal_); !s.ok()) return s;
  LoadKernel();
  return Status::Ok();
}

void CopyStream::LoadKernel() {
  const Api& api = driver_.api();
  Status s = driver_.Check(api.ModuleLoadData(&module_, kCopyKernel), "cuModuleLoadData");
  if (s.ok()) s = driver_.Check(api.ModuleGetFunction(&kernel_, module_, kCopyKernelName), "cuModuleGetFunction");
  if (s.ok()) return;
  kernel_ = nullptr;
  log::warn("transfer: small copies of CUDA device {} go one by one: {}", ordinal_, s.message());
}

CopyStream::~CopyStream() {
  if (!driver_.Bind(ordinal_).ok()) return;
  if (const Status s = Wait(issued_, Now() + kClosingWait); !s.ok()) log::warn("closing a stream: {}", s.message());
  for (Mark& mark : marks_)
    if (mark.event) driver_.api().EventDestroy(mark.event);
  for (StreamHandle* stream : streams_)
    if (stream) driver_.api().StreamDestroy(stream);
  if (module_) driver_.api().ModuleUnload(module_);
}

uint64_t CopyStream::Add(DevicePtr to, DevicePtr from, uint64_t bytes, uint64_t kernel_bytes) {
  if (waiting_count_ == kBatch) Submit();
  waiting_[waiting_count_] = {to, from, bytes};
  waiting_bytes_ += bytes;
  by_engine_[waiting_count_++] = bytes > kernel_bytes;
  return ++issued_;
}

void CopyStream::Flush() {
  if (waiting_count_ == 0) return;
  if (mark_count_ != 0) Done(issued_);  // what has ended is not under way
  if (Pays()) Submit();
}

bool CopyStream::Pays() const {
  if (mark_count_ == 0 || !status_.ok()) return true;
  return mark_count_ < kMostUnderWay && (waiting_bytes_ >= kWorthBytes || waiting_count_ >= kWorthCopies);
}

void CopyStream::Submit() {
  if (waiting_count_ == 0) return;
  if (Status s = driver_.Bind(ordinal_); !s.ok()) Fail(s);
  ReadMarks();
  auto* const list = reinterpret_cast<Copy*>(list_.data());
  uint32_t first = list_tail_, count = 0;
  uint64_t longest = 0;
  for (uint32_t i = 0; i < waiting_count_ && status_.ok(); ++i) {
    const Copy& copy = waiting_[i];
    const bool aligned = (copy.to | copy.from | copy.bytes) % kVector == 0;
    const bool fits = list_tail_ - list_head_ < kListEntries;
    // One copy gains nothing by the kernel.
    if (kernel_ && aligned && fits && !by_engine_[i] && waiting_count_ > 1) {
      if (list_tail_ % kListEntries == 0 && count) {  // a launch reads its entries in a row
        Launch(first, count, longest);
        first = list_tail_;
        count = 0;
        longest = 0;
      }
      list[list_tail_++ % kListEntries] = copy;
      ++count;
      longest = std::max(longest, copy.bytes);
    } else if (Status s = driver_.Check(driver_.api().MemcpyAsync(copy.to, copy.from, copy.bytes, streams_[lane_]),
                                        "cuMemcpyAsync"); !s.ok()) {
      Fail(s);
    }
  }
  if (count && status_.ok()) Launch(first, count, longest);
  waiting_count_ = 0;
  waiting_bytes_ = 0;
  SetMark();
}

void CopyStream::Launch(uint32_t first, uint32_t count, uint64_t longest) {
  uint64_t list = AsDevice(list_.data()) + uint64_t{first % kListEntries} * sizeof(Copy);
  void* parameters[] = {&list};
  const auto parts = static_cast<unsigned>(std::clamp<uint64_t>(longest / kBlockBytes, 1, 8));
  const int result = driver_.api().LaunchKernel(kernel_, parts, count, 1, kThreads, 1, 1, 0, streams_[lane_], parameters, nullptr);
  if (Status s = driver_.Check(result, "cuLaunchKernel"); !s.ok()) Fail(s);
}

// When all events are under way, a later one stands for these copies too.
void CopyStream::SetMark() {
  if (mark_count_ == kMarks || marked_ == issued_ - waiting_count_ || !status_.ok()) return;
  Mark& mark = marks_[(first_mark_ + mark_count_) % kMarks];
  if (Status s = driver_.Check(driver_.api().EventRecord(mark.event, streams_[lane_]), "cuEventRecord"); !s.ok()) return Fail(s);
  marked_ = mark.ticket = issued_ - waiting_count_;
  mark.list_end = list_tail_;
  ++mark_count_;
  lane_ = (lane_ + 1) % kLanes;
}

void CopyStream::ReadMarks() {
  while (mark_count_ && status_.ok()) {
    const Mark& mark = marks_[first_mark_];
    const int result = driver_.api().EventQuery(mark.event);
    if (result == kNotReady) return;
    if (Status s = driver_.Check(result, "cuEventQuery"); !s.ok()) return Fail(s);
    done_ = mark.ticket;
    list_head_ = mark.list_end;
    first_mark_ = (first_mark_ + 1) % kMarks;
    --mark_count_;
  }
}

bool CopyStream::Done(uint64_t ticket) {
  if (done_ >= ticket || !status_.ok()) return true;
  if (Status s = driver_.Bind(ordinal_); !s.ok()) Fail(s);
  ReadMarks();
  SetMark();  // for copies that found no event free
  return done_ >= ticket || !status_.ok();
}

Status CopyStream::Wait(uint64_t ticket, TimePoint deadline) {
  Submit();
  while (!Done(ticket)) {
    if (Now() >= deadline)
      return Error(Code::kDeadlineExceeded, "copies of CUDA device {} did not end in time", ordinal_);
    std::this_thread::yield();
  }
  return status_;
}

void CopyStream::Fail(const Status& status) {
  if (!status_.ok()) return;
  status_ = status;
  log::error("transfer: copies of CUDA device {} failed: {}", ordinal_, status.message());
}

}  // namespace baton::transfer::cuda
