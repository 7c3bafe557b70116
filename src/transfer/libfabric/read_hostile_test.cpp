// The read fabric against a peer that is made of a bare endpoint: it says what no fabric of ours would, or
// stops between two steps of an order.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "common/log.h"
#include "transfer/engine_core.h"
#include "transfer/libfabric/libfabric.h"
#include "transfer/libfabric/read_messages.h"
#include "transfer/libfabric/read_orders.h"

namespace baton::transfer {
namespace {

using namespace reads;

Options Reading(const char* way) {
  Options options;
  options.provider = ProviderKind::kTcp;
  options.fabric = way;
  options.write_mode = WriteMode::kRead;
  return options;
}

class BarePeer {
 public:
  static constexpr uint64_t kSource = 0, kSourceBytes = 256 << 10, kLease = kSourceBytes;

  explicit BarePeer(const char* way) : memory_(kLease + 8) {
    auto choices = ChooseProvider(Reading(way));
    BATON_CHECK(choices.ok(), "{}", choices.status().ToString());
    auto opened = Endpoint::Open(std::move(choices->front()), 0);
    BATON_CHECK(opened.ok(), "{}", opened.status().ToString());
    endpoint_ = *std::move(opened);
    region_ = *MakeRegion(endpoint_, {memory_.data(), memory_.size()}, 1);
    messages_ = std::vector<Message>(kReceives + 1);
    message_region_ = *MakeRegion(
        endpoint_, {reinterpret_cast<std::byte*>(messages_.data()), messages_.size() * sizeof(Message)}, 2);
    for (size_t i = 1; i < messages_.size(); ++i) PostReceive(messages_[i]);
    for (size_t i = 0; i < kSourceBytes; ++i) memory_[i] = static_cast<std::byte>(i * 37 >> 5);
  }
  ~BarePeer() { endpoint_.ep.reset(); }

  const std::string& address() const { return endpoint_.address; }
  const std::byte* source() const { return memory_.data(); }
  void SetLease(uint64_t value) { std::memcpy(&memory_[kLease], &value, sizeof value); }
  void Know(const Fabric& fabric) { handle_ = *endpoint_.Insert(fabric.Address()); }
  Order MakeOrder(uint64_t ticket, uint64_t lease) const {
    Order order;
    order.header = {.kind = Kind::kOrder, .pieces = 1, .sender = 0x5EED, .ticket = ticket};
    order.lease = region_.base + kLease;
    order.lease_key = region_.key;
    order.lease_value = lease;
    order.address_bytes = static_cast<uint32_t>(address().copy(order.address, kMaxAddress));
    return order;
  }
  Piece MakePiece(uint64_t target_key, uint64_t target, uint32_t bytes, uint32_t imm) const {
    return {.source = region_.base + kSource, .source_key = region_.key, .target = target,
            .target_key = target_key, .bytes = bytes, .imm = imm};
  }

  // False while it cannot be posted, or the one before is on its way.
  bool Send(const void* bytes, size_t size) {
    if (sending_) return false;
    std::memcpy(messages_[0].bytes, bytes, size);
    sending_ = fi_send(endpoint_.ep.get(), messages_[0].bytes, size, message_region_.desc, handle_, &messages_[0]) == 0;
    return sending_;
  }
  // Without looking for its end.
  bool Read(const Piece& piece) {
    return fi_read(endpoint_.ep.get(), memory_.data(), piece.bytes, region_.desc, handle_, piece.source,
                   piece.source_key, &messages_[0]) == 0;
  }
  void Poll() {
    fi_cq_data_entry entries[16];
    const ssize_t n = fi_cq_read(endpoint_.cq.get(), entries, 16);
    for (ssize_t i = 0; i < n; ++i) OnEnd(entries[i].op_context, entries[i].len);
    fi_cq_err_entry error{};
    while (n == -FI_EAVAIL && fi_cq_readerr(endpoint_.cq.get(), &error, 0) > 0) OnEnd(error.op_context, 0);
  }
  std::vector<std::string> received;

 private:
  static constexpr size_t kReceives = 64, kMessageBytes = 8192;
  struct Message {
    OpContext context;
    char bytes[kMessageBytes];
  };
  void PostReceive(Message& message) {
    fi_recv(endpoint_.ep.get(), message.bytes, kMessageBytes, message_region_.desc, FI_ADDR_UNSPEC, &message);
  }
  void OnEnd(void* context, size_t bytes) {
    Message* const message = static_cast<Message*>(context);
    if (!message) return;
    if (message == &messages_[0]) {
      sending_ = false;
      return;
    }
    if (bytes) received.emplace_back(message->bytes, bytes);
    PostReceive(*message);
  }

  Endpoint endpoint_;
  Region region_, message_region_;
  std::vector<std::byte> memory_;
  std::vector<Message> messages_;
  uint64_t handle_ = 0;
  bool sending_ = false;
};

class ReadHostileTest : public testing::TestWithParam<const char*> {
 protected:
  static constexpr uint64_t kBytes = 1 << 20;

  void Open() {
    auto opened = OpenLibfabric(Reading(GetParam()));
    ASSERT_TRUE(opened.ok()) << opened.status().ToString();
    fabric_ = *std::move(opened);
    region_ = *fabric_->Register({memory_.data(), kBytes});
    key_ = fabric_->Expose(region_)->key;
  }
  void PollFabric() {
    Completion some[16];
    for (size_t i = fabric_->Poll(Now(), some); i > 0; --i)
      (some[i - 1].kind == Completion::Kind::kArrived ? arrived_ : done_).push_back(some[i - 1]);
  }
  template <typename Done>
  bool PollUntil(Done done, bool fabric = true, bool peer = true, Duration time = 10s) {
    for (const TimePoint deadline = Now() + time; Now() < deadline;) {
      if (fabric) PollFabric();
      if (peer) peer_.Poll();
      if (done()) return true;
    }
    return false;
  }
  void PollFor(Duration time, bool fabric = true, bool peer = true) {
    PollUntil([] { return false; }, fabric, peer, time);
  }
  bool Send(const void* bytes, size_t size) {
    return PollUntil([&] { return peer_.Send(bytes, size); });
  }
  PostResult Write(OpContext& context) {
    Status why;
    return fabric_->Write({.peer = *fabric_->Insert(peer_.address()), .local_region = region_, .bytes = 64,
                           .remote_key = 1, .context = &context}, Now(), why);
  }

  ReadHostileTest() { log::SetLevel("error"); }  // what is refused is a warning
  ~ReadHostileTest() override { log::SetLevel("info"); }

  BarePeer peer_{GetParam()};
  std::vector<std::byte> memory_ = std::vector<std::byte>(kBytes);
  std::unique_ptr<Fabric> fabric_;
  uint32_t region_ = 0;
  uint64_t key_ = 0;
  std::vector<Completion> done_, arrived_;
};

// The writer takes its memory back after the bytes were read and before the lease is: what was read may
// be anything by then.
TEST_P(ReadHostileTest, ALeaseThatEndsBehindTheBytesCounts) {
  Open();
  peer_.Know(*fabric_);
  peer_.SetLease(7);
  Order order = peer_.MakeOrder(1, 7);
  order.pieces[0] = peer_.MakePiece(key_, 0, 4096, 1);
  ASSERT_TRUE(Send(&order, OrderBytes(1)));
  ASSERT_TRUE(PollUntil([&] { return arrived_.size() == 1 && peer_.received.size() == 1; }));
  order.header.ticket = 2;
  ASSERT_TRUE(PollUntil([&] { return peer_.Send(&order, OrderBytes(1)); }, false, true));
  PollFor(20ms, false, true);   // it goes out
  PollFor(20ms, true, false);   // the bytes are asked for
  PollFor(20ms, false, true);   // they are given
  peer_.SetLease(0);
  PollFor(200ms);
  EXPECT_EQ(arrived_.size(), 1u);
  EXPECT_EQ(peer_.received.size(), 1u) << "answered";
}

// A copy of the first order: answered and not carried out again, unless it was dropped the first time.
TEST_P(ReadHostileTest, ACopyOfTheFirstOrderIsOnlyAnswered) {
  Open();
  peer_.Know(*fabric_);
  peer_.SetLease(0);
  Order order = peer_.MakeOrder(5, 7);
  order.pieces[0] = peer_.MakePiece(key_, 0, 4096, 1);
  ASSERT_TRUE(Send(&order, OrderBytes(1)));
  PollFor(100ms);
  ASSERT_TRUE(arrived_.empty() && peer_.received.empty());
  peer_.SetLease(7);
  for (size_t answers = 1; answers <= 3; ++answers) {
    ASSERT_TRUE(Send(&order, OrderBytes(1)));
    ASSERT_TRUE(PollUntil([&] { return peer_.received.size() == answers; })) << answers;
    EXPECT_EQ(peer_.received.back(), peer_.received.front());
    EXPECT_EQ(arrived_.size(), 1u);
  }
  order.header.ticket = 6;
  ASSERT_TRUE(Send(&order, OrderBytes(1)));
  EXPECT_TRUE(PollUntil([&] { return arrived_.size() == 2 && peer_.received.size() == 4; }));
}

// An answer that comes late, to an order of a process that was at this address before.
TEST_P(ReadHostileTest, AnAnswerToAnEarlierProcessEndsNothing) {
  Header orders[2];
  for (Header& order : orders) {
    Open();
    OpContext context;
    done_.clear();
    peer_.received.clear();
    ASSERT_EQ(Write(context), PostResult::kPosted);
    ASSERT_TRUE(PollUntil([&] { return !peer_.received.empty(); }));
    std::memcpy(&order, peer_.received[0].data(), sizeof order);
    peer_.Know(*fabric_);
    Answer answer;
    answer.header = {.kind = Kind::kAnswer, .sender = 1, .ticket = orders[0].ticket};
    answer.window = 1;
    ASSERT_TRUE(Send(&answer, sizeof answer));
    PollFor(50ms);
    ASSERT_EQ(done_.size(), &order == orders ? 1u : 0u);
    answer.header.ticket = order.ticket;
    ASSERT_TRUE(Send(&answer, sizeof answer));
    ASSERT_TRUE(PollUntil([&] { return done_.size() == 1; }));
    fabric_ = nullptr;
  }
}

// Noise, damaged orders and answers: nothing arrives, no byte changes, no buffer is lost, and others are
// served as before.
TEST_P(ReadHostileTest, NoiseHarmsNobody) {
  Open();
  peer_.Know(*fabric_);
  peer_.SetLease(7);
  std::mt19937_64 random(4711);
  constexpr int kMessages = 3000;  // more than there are receive buffers
  for (int i = 0; i < kMessages; ++i) {
    char bytes[6000];
    size_t size = 1 + random() % sizeof bytes;
    Order order = peer_.MakeOrder(random(), 7);
    order.header.pieces = static_cast<uint16_t>(1 + random() % kMaxPieces);
    for (Piece& piece : order.pieces) {
      piece = peer_.MakePiece(key_, random(), static_cast<uint32_t>(random()), 1);
      if (random() % 2) piece = peer_.MakePiece(random(), 0, 64, 1);
    }
    switch (random() % 6) {
      case 0: break;
      case 1: order.header.sender = random(); break;
      case 2: order.address_bytes = static_cast<uint32_t>(random() % 80); break;
      case 3: order.header.kind = static_cast<Kind>(random() % 4); break;
      case 4: order.header.pieces = static_cast<uint16_t>(random()); break;
      case 5: order.address[3] = static_cast<char>(1 + random() % 20); break;  // a port nobody listens on
    }
    if (random() % 4) {
      size = OrderBytes(std::min<uint32_t>(order.header.pieces, kMaxPieces));
      std::memcpy(bytes, &order, size);
    } else if (random() % 2) {
      Answer answer;
      answer.header = {.kind = Kind::kAnswer, .sender = random(), .ticket = random()};
      answer.failed = ~0u;
      std::memcpy(bytes, &answer, size = sizeof answer);
    } else {
      std::generate(bytes, bytes + size, [&] { return static_cast<char>(random()); });
    }
    ASSERT_TRUE(Send(bytes, size)) << i;
  }
  PollFor(200ms);
  EXPECT_TRUE(arrived_.empty());
  EXPECT_TRUE(done_.empty());
  EXPECT_TRUE(std::all_of(memory_.begin(), memory_.end(), [](std::byte b) { return b == std::byte{0}; }));
  Order order = peer_.MakeOrder(1, 8);
  peer_.SetLease(8);
  for (uint32_t i = 0; i < 3000; ++i) {
    order.header.ticket = i + 1;
    order.pieces[0] = peer_.MakePiece(key_, 0, 4096, i);
    ASSERT_TRUE(Send(&order, OrderBytes(1)));
    ASSERT_TRUE(PollUntil([&] { return arrived_.size() == i + 1; })) << i;
  }
  EXPECT_EQ(std::memcmp(memory_.data(), peer_.source(), 4096), 0);
}

// An engine that closes waits for reads under way, and meanwhile serves those of others: its own memory must
// still be there (a finding of AddressSanitizer's).
TEST_P(ReadHostileTest, AClosingEngineIsReadFrom) {
  auto opened = OpenLibfabric(Reading(GetParam()));
  ASSERT_TRUE(opened.ok()) << opened.status().ToString();
  auto core = std::make_unique<EngineCore>(*std::move(opened), EngineCore::Config{.epoch = 1, .max_peers = 8},
                                           [](const Event&) {});
  ASSERT_TRUE(core->Open().ok());
  PeerBlob blob;
  blob.family = core->fabric().traits().family;
  blob.epoch = 2;
  blob.credits = CreditBook::kUnlimited;
  blob.address = peer_.address();
  ASSERT_TRUE(core->AddPeer(blob, Now()).ok());
  peer_.Know(core->fabric());
  const auto step_until = [&](auto done, bool peer) {
    for (const TimePoint deadline = Now() + 10s; Now() < deadline;) {
      core->Step(Now());
      if (peer) peer_.Poll();
      if (done()) return true;
    }
    return false;
  };
  ASSERT_TRUE(step_until([&] { return !peer_.received.empty(); }, true));
  Order hello, order = peer_.MakeOrder(1, 7);
  std::memcpy(static_cast<void*>(&hello), peer_.received[0].data(), OrderBytes(1));
  order.pieces[0] = peer_.MakePiece(~uint64_t{0}, 0, 64, 1);
  ASSERT_TRUE(step_until([&] { return peer_.Send(&order, OrderBytes(1)); }, true));
  const TimePoint asked = Now() + 30ms;
  step_until([&] { return Now() >= asked; }, false);  // for the lease, which nobody gives
  ASSERT_TRUE(peer_.Read(hello.pieces[0]));
  core = nullptr;
}

INSTANTIATE_TEST_SUITE_P(Ways, ReadHostileTest, testing::Values("rxm", "native"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace baton::transfer
