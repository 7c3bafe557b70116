// Both PD sessions under every order of events that a seeded random driver can find. The driver
// plays the world: it answers each action as engine, fabric and peer would, at any time.
#include <algorithm>
#include <map>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "disagg/decode_session.h"
#include "disagg/prefill_session.h"

namespace baton::disagg {
namespace {

Status Failure() { return Error(Code::kUnavailable, "made up"); }

class PrefillWorld {
 public:
  explicit PrefillWorld(uint32_t seed) : random_(seed) {}

  // Runs until nothing can happen any more; deadlines then fail what still waits.
  void Run() {
    for (int step = 0; step < 60; ++step) {
      std::vector<int> possible;
      if (!session_.has_request()) possible.push_back(0);
      if (!session_.has_grant()) possible.push_back(1);
      if (engine_running_) possible.push_back(2);
      if (send_open_ && (sealed_ || cancelled_send_)) possible.push_back(3);
      if (Chance(10)) possible.push_back(4);
      if (possible.empty()) break;
      Do(possible[random_() % possible.size()]);
      if (HasFatalFailure()) return;
    }
    Perform(session_.OnFail(Error(Code::kDeadlineExceeded, "late")));
    while (engine_running_) Do(2);
    if (send_open_) Do(3);
  }

  PrefillSession session_;
  std::map<PrefillSession::Action, int> count_;

 private:
  using A = PrefillSession::Action;
  bool Chance(int percent) { return static_cast<int>(random_() % 100) < percent; }
  static bool HasFatalFailure() { return testing::Test::HasFatalFailure(); }

  void Do(int event) {
    switch (event) {
      case 0: return Perform(session_.OnRequest());
      case 1: return Perform(session_.OnGrant());
      case 2:
        engine_running_ = false;
        return Perform(session_.OnEngineEnd(engine_aborted_ || Chance(20) ? Failure() : Status::Ok()));
      case 3:
        send_open_ = false;
        return Perform(session_.OnSendEnd(cancelled_send_ || Chance(20) ? Failure() : Status::Ok()));
      case 4: return Perform(session_.OnFail(Failure()));
    }
  }

  void Perform(const PrefillSession::Actions& actions) {
    for (const A action : actions) {
      ++count_[action];
      switch (action) {
        case A::kStart: engine_running_ = send_open_ = true; break;
        case A::kSeal: ASSERT_FALSE(engine_running_); ASSERT_TRUE(send_open_ || !session_.status().ok()); sealed_ = true; break;
        case A::kAbortEngine: ASSERT_TRUE(engine_running_); engine_aborted_ = true; break;
        case A::kCancelSend: ASSERT_TRUE(send_open_); cancelled_send_ = true; break;
        case A::kReleaseHold: ASSERT_FALSE(engine_running_); ASSERT_FALSE(send_open_) << "pages freed under a write"; break;
        case A::kEndGrant: ASSERT_FALSE(send_open_) << "End sent while writes are in flight"; break;
        case A::kAnswerClient: ASSERT_FALSE(send_open_); break;
      }
    }
  }

  std::mt19937 random_;
  bool engine_running_ = false, send_open_ = false, sealed_ = false;
  bool engine_aborted_ = false, cancelled_send_ = false;
};

TEST(PrefillSession, EveryHalfIsAnsweredOnceAndPagesAreFreedOnce) {
  using A = PrefillSession::Action;
  int sealed = 0, failed_early = 0;
  for (uint32_t seed = 0; seed < 20000; ++seed) {
    PrefillWorld world(seed);
    world.Run();
    ASSERT_FALSE(testing::Test::HasFatalFailure()) << "seed " << seed;
    ASSERT_TRUE(world.session_.settled()) << "seed " << seed;
    ASSERT_EQ(world.count_[A::kAnswerClient], world.session_.has_request()) << "seed " << seed;
    ASSERT_EQ(world.count_[A::kEndGrant], world.session_.has_grant()) << "seed " << seed;
    ASSERT_EQ(world.count_[A::kReleaseHold], world.session_.started()) << "seed " << seed;
    ASSERT_LE(world.count_[A::kAbortEngine], 1) << "seed " << seed;
    sealed += world.count_[A::kSeal];
    failed_early += !world.session_.started();
  }
  EXPECT_GT(sealed, 1000);
  EXPECT_GT(failed_early, 1000);
}

class DecodeWorld {
 public:
  explicit DecodeWorld(uint32_t seed) : random_(seed) {}

  void Run() {
    for (int step = 0; step < 80 && !session_.finished(); ++step) {
      const std::vector<int> possible = Possible();
      if (possible.empty()) break;
      Do(possible[random_() % possible.size()]);
      if (testing::Test::HasFatalFailure()) return;
    }
    Perform(session_.OnFail(Error(Code::kDeadlineExceeded, "late")));
    if (!reserve_answered_) Do(1);
    if (slot_open_) Do(4);
    if (!session_.finished()) Perform(session_.OnPeerBroken(Failure()));
    if (fencing_) Perform(session_.OnFenced());
  }

  DecodeSession session_;
  std::map<DecodeSession::Action, int> count_;
  bool pages_held_ = false, slot_held_ = false;
  bool must_tell_ = false;  // prefill, that it went wrong here: it may wait

 private:
  using A = DecodeSession::Action;
  bool Chance(int percent) { return static_cast<int>(random_() % 100) < percent; }

  std::vector<int> Possible() {
    std::vector<int> out;
    if (!peer_answered_) out.push_back(0);
    if (!reserve_answered_) out.push_back(1);
    if (granted_ && !sealed_ && !peer_ended_) out.push_back(2);
    // All bytes have landed only after a seal; a cancelled or expired slot ends at any time.
    if (slot_open_ && sealed_) out.push_back(3);
    if (slot_open_ && (slot_cancelled_ || Chance(5))) out.push_back(4);
    if (granted_ && !peer_ended_) out.push_back(sealed_ ? 5 : 6);
    if (granted_ && !peer_ended_ && Chance(10)) out.push_back(7);
    if (fencing_) out.push_back(8);
    if (Chance(8)) out.push_back(9);
    return out;
  }

  void Do(int event) {
    switch (event) {
      case 0: peer_answered_ = true; return Perform(session_.OnPeer(Chance(15) ? Failure() : Status::Ok()));
      case 1: {
        reserve_answered_ = true;
        const bool ok = !reserve_aborted_ && !Chance(15);
        pages_held_ = ok;
        return Perform(session_.OnReserved(ok ? Status::Ok() : Failure()));
      }
      case 2: sealed_ = true; return Perform(session_.OnSeal());
      case 3:
        slot_open_ = false;
        all_landed_ = true;
        return Perform(session_.OnSlotEnd(Status::Ok()));
      case 4: slot_open_ = false; return Perform(session_.OnSlotEnd(Failure()));
      case 5: peer_ended_ = writes_over_ = true; return Perform(session_.OnEnd(Chance(20) ? Failure() : Status::Ok()));
      case 6: peer_ended_ = writes_over_ = true; return Perform(session_.OnEnd(Failure()));
      case 7: peer_ended_ = true; return Perform(session_.OnPeerBroken(Failure()));
      case 8: fencing_ = false; writes_over_ = true; return Perform(session_.OnFenced());
      case 9: return Perform(session_.OnFail(Failure()));
    }
  }

  void Perform(const DecodeSession::Actions& actions) {
    for (const A action : actions) {
      ++count_[action];
      switch (action) {
        case A::kGrant:
          ASSERT_TRUE(pages_held_);
          if (Chance(5)) {
            Perform(session_.OnGrantFailed(Failure()));
            return;
          }
          granted_ = slot_open_ = slot_held_ = true;
          break;
        case A::kSealSlot: ASSERT_TRUE(slot_held_); break;
        case A::kStart: ASSERT_TRUE(pages_held_); pages_held_ = false; break;
        case A::kAbortEngine: reserve_aborted_ = true; break;
        case A::kCancelSlot: ASSERT_TRUE(slot_held_); slot_cancelled_ = true; break;
        case A::kTellPrefill: ASSERT_FALSE(writes_over_) << "prefill knows"; break;
        case A::kFence: fencing_ = true; break;
        case A::kFailClient: must_tell_ = !writes_over_; break;
        case A::kReleasePages:
          ASSERT_TRUE(pages_held_);
          // Nobody may write into pages that are free: prefill said so, was cut off, or all bytes came.
          ASSERT_TRUE(!granted_ || writes_over_ || all_landed_) << "pages freed under a writer";
          pages_held_ = false;
          break;
        case A::kReleaseSlot: ASSERT_TRUE(slot_held_); slot_held_ = false; break;
      }
    }
  }

  std::mt19937 random_;
  bool peer_answered_ = false, reserve_answered_ = false, reserve_aborted_ = false;
  bool granted_ = false, sealed_ = false, slot_open_ = false, slot_cancelled_ = false;
  bool peer_ended_ = false, writes_over_ = false, fencing_ = false, all_landed_ = false;
};

TEST(DecodeSession, ClientIsToldOnceAndNothingLeaks) {
  using A = DecodeSession::Action;
  int started = 0, fenced = 0;
  for (uint32_t seed = 0; seed < 40000; ++seed) {
    DecodeWorld world(seed);
    world.Run();
    ASSERT_FALSE(testing::Test::HasFatalFailure()) << "seed " << seed;
    ASSERT_TRUE(world.session_.finished()) << "seed " << seed;
    ASSERT_EQ(world.count_[A::kStart] + world.count_[A::kFailClient], 1) << "seed " << seed;
    ASSERT_EQ(world.count_[A::kTellPrefill], world.must_tell_) << "seed " << seed;
    ASSERT_FALSE(world.pages_held_) << "seed " << seed;
    ASSERT_FALSE(world.slot_held_) << "seed " << seed;
    started += world.count_[A::kStart];
    fenced += world.count_[A::kFence];
  }
  EXPECT_GT(started, 5000);
  EXPECT_GT(fenced, 1000);
}

}  // namespace
}  // namespace baton::disagg
