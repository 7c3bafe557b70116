// How many bytes of data may be in flight to one peer, so that a control write never waits behind
// more than a given time of data, and the way stays full.
//
// limit = best rate seen lately x (wait + time of a write on an empty way): what the way itself
// holds plus the time that a control write may wait. A way not yet filled shows a rate that grows
// with the limit, so the limit grows until the rate does no more. Only a write posted while nothing
// was in flight tells the time of an empty way: any other one waited behind its like.
// Thread: the worker. Time enters as an argument.
#pragma once

#include <algorithm>
#include <cstdint>

#include "common/clock.h"

namespace baton::transfer {

class Pacer {
 public:
  static constexpr uint64_t kFloor = 1 << 20, kStart = 4 << 20, kCap = 256 << 20;
  // Where processes move the bytes, the way must stay full while the scheduler has one of them
  // wait: milliseconds, on a busy machine.
  static constexpr uint64_t kSoftwareFloor = 8 << 20;
  // Where GPUs copy, at hundreds of GB/s: one batch that runs, one behind it, and what gathers
  // for the next while both engines take their turn. A third of a millisecond over NVLink.
  static constexpr uint64_t kDeviceFloor = 128 << 20;

  explicit Pacer(Duration wait, uint64_t floor = kFloor)
      : wait_(wait), floor_(floor), limit_(std::max(kStart, floor)) {}

  // May `bytes` more be posted? One write always may.
  bool MayPost(uint64_t bytes) const {
    return in_flight_ == 0 || wait_ <= Duration(0) || in_flight_ + bytes <= limit_;
  }
  void OnPosted(uint64_t bytes, TimePoint now) {
    if (in_flight_ == 0) {
      began_ = probe_at_ = now;
      probing_ = true;
      moved_ = 0;
    }
    in_flight_ += bytes;
  }
  void OnDone(uint64_t bytes, Duration took, TimePoint now) {
    in_flight_ -= std::min(bytes, in_flight_);
    moved_ += bytes;
    if (probing_ && now - took == probe_at_) {
      probing_ = false;
      // One late sample (a thread that was not scheduled) is forgotten after a few good ones.
      empty_time_ = empty_time_ == Duration(0) ? took : std::min(took, empty_time_ + empty_time_ / 8);
    }
    const Duration span = now - began_;
    if (span < kInterval || wait_ <= Duration(0)) return;
    // Slow to forget: a thread that was not scheduled for a while says nothing about the way.
    rate_ = std::max(static_cast<double>(moved_) / Seconds(span), rate_ * 0.98);
    limit_ = std::clamp(static_cast<uint64_t>(rate_ * Seconds(wait_ + empty_time_)), floor_, kCap);
    began_ = now;
    moved_ = 0;
  }
  // Writes that will never complete.
  void Forget() { in_flight_ = 0; }

  uint64_t in_flight() const { return in_flight_; }
  uint64_t limit() const { return limit_; }

 private:
  static constexpr Duration kInterval = 1ms;
  Duration wait_;
  uint64_t floor_;
  Duration empty_time_{0};
  TimePoint began_{}, probe_at_{};
  bool probing_ = false;
  uint64_t in_flight_ = 0, moved_ = 0, limit_;
  double rate_ = 0;
};

}  // namespace baton::transfer
