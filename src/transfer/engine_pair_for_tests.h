// For tests: a sender and a receiver, engine cores that are stepped by hand over the loopback network.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "transfer/engine_core.h"
#include "transfer/loopback/loopback.h"
#include "transfer/rails/rails.h"

namespace baton::transfer {

inline constexpr uint64_t kLayer = 256;
inline constexpr uint32_t kLayers = 8;

class EnginePair : public testing::Test {
 protected:
  struct Station {
    std::vector<std::byte> memory = std::vector<std::byte>(kLayers * kLayer);
    std::vector<std::string> addresses;
    std::vector<Event> events;
    std::unique_ptr<EngineCore> core;
    size_t Count(Event::Kind kind) const {
      return std::count_if(events.begin(), events.end(), [&](const Event& e) { return e.kind == kind; });
    }
  };

  void Make(EngineCore::Config config = {}, uint32_t cq_entries = 0, size_t rails = 0, Duration silence = 40ms) {
    for (Station* station : {&sender_, &receiver_}) {
      config.epoch = ++epochs_;
      config.max_peers = 8;
      std::vector<std::unique_ptr<Fabric>> fabrics(std::max<size_t>(rails, 1));
      for (auto& fabric : fabrics) {
        fabric = network_->Open(cq_entries);
        station->addresses.push_back(fabric->Address());
      }
      std::unique_ptr<Fabric> fabric =
          rails ? JoinRails(std::move(fabrics), {.silence = silence, .first_retry = 500ms}) : std::move(fabrics[0]);
      station->core = std::make_unique<EngineCore>(std::move(fabric), config,
                                                   [station](const Event& e) { station->events.push_back(e); });
      ASSERT_TRUE(station->core->Open().ok());
      ASSERT_TRUE(station->core->Register({station->memory.data(), station->memory.size()}).ok());
    }
    for (size_t i = 0; i < sender_.memory.size(); ++i) sender_.memory[i] = static_cast<std::byte>(1 + i % 251);
    const std::string of_sender = *sender_.core->Describe(), of_receiver = *receiver_.core->Describe();
    to_receiver_ = *sender_.core->AddPeer(*ParseBlob(of_receiver), now_);
    to_sender_ = *receiver_.core->AddPeer(*ParseBlob(of_sender), now_);
    Run(5ms);
  }
  void Run(Duration time) {
    for (const TimePoint end = now_ + time; now_ < end;) {
      now_ += 100us;
      sender_.core->Step(now_);
      receiver_.core->Step(now_);
    }
  }
  void Begin(Duration patience = 100s) {
    slot_ = *receiver_.core->Expect(to_sender_, now_ + 100s);
    send_ = *sender_.core->Begin(to_receiver_, slot_, {0}, {0}, now_ + patience);
    writes_ = 0;
  }
  void PushLayer(uint32_t layer) {
    const transfer::Run run{layer * kLayer, layer * kLayer, kLayer};
    const auto pushed = sender_.core->Push(send_, {&run, 1});
    ASSERT_TRUE(pushed.ok());
    writes_ += *pushed;
    ASSERT_TRUE(sender_.core->Mark(send_).ok());
  }
  // Pushes a layer whose write takes so long.
  void PushSlowLayer(uint32_t layer, Duration delay) {
    Run(1ms);  // what was pushed before is not slow, nor its mark
    SetDelay(delay);
    PushLayer(layer);
    Run(100us);
    SetDelay(0ms);
  }
  void SetDelay(Duration delay) { network_->SetFaults({.min_delay = delay, .max_delay = delay}); }
  void SetBusy(double busy) {
    LoopbackFaults faults;
    faults.busy = busy;
    network_->SetFaults(faults);
  }
  void Finish() {
    sender_.core->Finish(send_);
    receiver_.core->Seal(slot_, writes_);
  }
  uint32_t Landed() const { return receiver_.core->Landed(slot_); }
  bool IsThere(uint32_t layer) const {
    return std::memcmp(&receiver_.memory[layer * kLayer], &sender_.memory[layer * kLayer], kLayer) == 0;
  }
  uint64_t Strays() const { return receiver_.core->usage().stray_writes; }

  std::shared_ptr<LoopbackNetwork> network_ = LoopbackNetwork::Create(5);
  Station sender_, receiver_;
  PeerId to_receiver_, to_sender_;
  Slot slot_;
  SendId send_;
  uint32_t writes_ = 0;
  uint64_t epochs_ = 0;
  TimePoint now_ = TimePoint{} + 1h;
};

}  // namespace baton::transfer
