// Counts and due times of the real sessions of both sides, against a recount after every event.
#include "disagg/session_table.h"

#include <map>
#include <random>

#include <gtest/gtest.h>

#include "disagg/decode_transfer.h"
#include "disagg/prefill_room.h"

namespace baton::disagg {
namespace {

Status Failure() { return Error(Code::kUnavailable, "made up"); }

// Every one must be as a walk over all finds it.
template <typename Item>
void ExpectRecounted(SessionTable<uint64_t, Item>& table, TimePoint now) {
  size_t all = 0;
  for (size_t i = 0; i < Item::kPhases; ++i) {
    const auto phase = static_cast<typename Item::Phase>(i);
    const auto keys = table.KeysWhere([&](const Item& item) { return item.phase() == phase; });
    ASSERT_EQ(table.count(phase), static_cast<int>(keys.size())) << "phase " << i;
    all += keys.size();
  }
  ASSERT_EQ(table.empty(), all == 0);
  TimePoint earliest = TimePoint::max();
  table.KeysWhere([&](const Item& item) {
    earliest = std::min(earliest, item.due());
    return false;
  });
  const Item* due = table.NextDue(now);
  ASSERT_EQ(due != nullptr, earliest <= now);
  if (due) {
    ASSERT_EQ(due->due(), earliest);
  }
}

TEST(SessionTable, RoomsAreCountedInEveryPhase) {
  std::mt19937 random(20261130);
  SessionTable<uint64_t, Room> rooms;
  std::map<uint64_t, int> open_ends;  // of started rooms: 1 the engine's, 2 the send's
  TimePoint now{};
  int forgotten = 0;
  std::array<int, Room::kPhases> seen{};
  for (int step = 0; step < 20000; ++step) {
    now += std::chrono::milliseconds(random() % 200);
    const uint64_t key = random() % 40;
    auto [room, is_new] = rooms.Open(key);
    if (is_new) {
      room->number = static_cast<int64_t>(key);
      room->deadline = now + 5s;
    }
    PrefillSession& session = room->session;
    const bool was_started = session.started();
    switch (random() % 5) {
      case 0: if (!session.has_request()) (void)session.OnRequest(); break;
      case 1: if (!session.has_grant()) (void)session.OnGrant(); break;
      case 2: if (open_ends[key] & 1) { open_ends[key] &= ~1; (void)session.OnEngineEnd(random() % 3 ? Status::Ok() : Failure()); } break;
      case 3: if (open_ends[key] & 2) { open_ends[key] &= ~2; (void)session.OnSendEnd(Status::Ok()); } break;
      case 4: if (random() % 4 == 0) (void)session.OnFail(Failure()); break;
    }
    if (session.started() && !was_started) {
      open_ends[key] = 3;
      room->deadline = now + 60s;
    }
    if (session.settled() && room->settled_at == TimePoint{}) room->settled_at = now;
    rooms.Update(key);
    ++seen[static_cast<size_t>(room->phase())];
    ExpectRecounted(rooms, now);
    if (HasFatalFailure()) return;
    while (Room* due = rooms.NextDue(now)) {
      const auto number = static_cast<uint64_t>(due->number);
      if (due->session.settled()) {
        rooms.Erase(number);
        ++forgotten;
      } else {
        due->deadline = TimePoint::max();
        (void)due->session.OnFail(Failure());
        if (due->session.settled()) due->settled_at = now;
        rooms.Update(number);
      }
    }
    ExpectRecounted(rooms, now);
    if (HasFatalFailure()) return;
  }
  EXPECT_GT(forgotten, 100);
  for (const int n : seen) EXPECT_GT(n, 100);
  rooms.Clear();
  ExpectRecounted(rooms, now);
}

TEST(SessionTable, TransfersAreCountedInEveryPhase) {
  std::mt19937 random(20261130);
  SessionTable<uint64_t, Transfer> transfers;
  TimePoint now{};
  std::array<int, Transfer::kPhases> seen{};
  int finished = 0;
  for (int step = 0; step < 20000; ++step) {
    now += std::chrono::milliseconds(random() % 200);
    const uint64_t key = random() % 40;
    Transfer& t = *transfers.Open(key).first;
    if (random() % 3 == 0) t.deadline = now + std::chrono::milliseconds(random() % 5000);
    switch (random() % 7) {
      case 0: (void)t.session.OnPeer(Status::Ok()); break;
      case 1: (void)t.session.OnReserved(Status::Ok()); break;
      case 2: (void)t.session.OnFail(Failure()); break;
      case 3: if (t.session.granted()) (void)t.session.OnSlotEnd(random() % 2 ? Status::Ok() : Failure()); break;
      case 4: if (t.session.granted()) (void)t.session.OnEnd(Failure()); break;
      case 5: if (t.session.granted()) (void)t.session.OnFenced(); break;
      case 6: if (t.session.granted()) (void)t.session.OnSeal(); break;
    }
    if (t.session.finished()) {
      transfers.Erase(key);
      ++finished;
    } else {
      transfers.Update(key);
      ++seen[static_cast<size_t>(t.phase())];
    }
    ExpectRecounted(transfers, now);
    if (HasFatalFailure()) return;
  }
  EXPECT_GT(finished, 100);
  for (const int n : seen) EXPECT_GT(n, 100);
}

}  // namespace
}  // namespace baton::disagg
