// Credits against a model of a completion queue; pacing; checksums; the flight recorder.
#include <gtest/gtest.h>

#include <array>
#include <random>
#include <set>

#include <fmt/format.h>

#include "transfer/credits.h"
#include "transfer/crc32c.h"
#include "transfer/flight_recorder.h"
#include "transfer/pacing.h"

namespace baton::transfer {
namespace {

// Writers that use all they know of, a reader that is slow, mails that are late: what is unread
// never exceeds the queue, and everybody gets on.
TEST(CreditBook, TheQueueNeverOverrunsAndNobodyStarves) {
  for (uint32_t seed = 1; seed <= 300; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    const auto pick = [&](uint32_t below) { return static_cast<uint32_t>(random() % below); };
    const uint32_t entries = 160 + pick(1000), own = pick(32);
    CreditBook book(entries, own);
    struct Writer {
      uint64_t knows = 0, posted = 0, unread = 0, told = 0;
    };
    std::vector<Writer> writers;
    while (book.HasRoom() && writers.size() < 12)
      writers.push_back({.knows = book.Open(static_cast<uint32_t>(writers.size()))});
    ASSERT_GE(writers.size(), 3u);
    for (int step = 0; step < 3000; ++step) {
      const uint32_t w = pick(static_cast<uint32_t>(writers.size()));
      Writer& writer = writers[w];
      switch (pick(4)) {
        case 0:  // a burst
          for (uint64_t n = pick(100); n && writer.posted < writer.knows; --n) ++writer.posted, ++writer.unread;
          break;
        case 1:  // the reader takes some; one in 50 it cannot attribute
          for (uint64_t n = pick(100); n && writer.unread; --n) {
            --writer.unread;
            if (pick(50)) book.Consume(w);
          }
          break;
        case 2:
          if (const uint64_t total = book.TopUp(w, false)) writer.told = total;
          break;
        case 3:
          writer.knows = std::max(writer.knows, writer.told);
          break;
      }
      uint64_t unread = own;
      for (const Writer& each : writers) unread += each.unread + CreditBook::kMails;
      ASSERT_LE(unread, entries);
      ASSERT_LE(book.held() + own, entries);
    }
    // Everything is read, everybody says what has landed: all may write again.
    for (uint32_t w = 0; w < writers.size(); ++w) book.NoteLanded(w, writers[w].posted);
    book.OnQueueEmpty();
    for (uint32_t w = 0; w < writers.size(); ++w)
      EXPECT_GE(book.TopUp(w, true), writers[w].posted + CreditBook::kLeast);
    // What is closed comes back, but only once the queue was seen empty.
    const uint32_t held = book.held();
    for (uint32_t w = 0; w < writers.size(); ++w) book.Close(w);
    EXPECT_EQ(book.held(), held);
    book.OnQueueEmpty();
    EXPECT_EQ(book.held(), 0u);
  }
}

TEST(CreditBook, AQueueWithoutBoundNeedsNoCredits) {
  CreditBook book(0, 100);
  EXPECT_TRUE(book.HasRoom());
  EXPECT_EQ(book.Open(3), CreditBook::kUnlimited);
  EXPECT_EQ(book.TopUp(3, false), 0u);
  EXPECT_EQ(book.TopUp(3, true), CreditBook::kUnlimited);
}

// A way of `rate` bytes/s and a latency, first in first out: what is in flight settles near what
// moves in the wait.
TEST(Pacer, FindsTheRateOfTheWay) {
  for (const double rate : {0.5e9, 3e9, 12e9, 50e9}) {
    SCOPED_TRACE(rate);
    constexpr uint64_t kWrite = 256 << 10;
    constexpr Duration kLatency = 30us;
    Pacer pacer(1ms);
    std::vector<std::pair<TimePoint, TimePoint>> flying;  // posted, done
    TimePoint now = TimePoint{} + 1h, way_free = now;
    uint64_t most = 0, moved = 0;
    const TimePoint half = now + 250ms, end = now + 500ms;
    size_t head = 0;
    for (; now < end; now += 5us) {
      for (; head < flying.size() && flying[head].second <= now; ++head) {
        pacer.OnDone(kWrite, now - flying[head].first, now);
        moved += now > half ? kWrite : 0;
      }
      while (pacer.MayPost(kWrite)) {
        pacer.OnPosted(kWrite, now);
        way_free = std::max(way_free, now) + std::chrono::nanoseconds(int64_t(kWrite / rate * 1e9));
        flying.emplace_back(now, way_free + kLatency);
      }
      if (now > half) most = std::max(most, pacer.in_flight());
    }
    EXPECT_GT(static_cast<double>(moved), 0.95 * rate * 0.25);  // the way was full
    EXPECT_LT(static_cast<double>(most), std::max(1.5e-3 * rate, 1.1 * Pacer::kFloor));
  }
}

TEST(Pacer, OneWriteAlwaysMayAndNoWaitMeansNoBound) {
  Pacer pacer(1ms);
  EXPECT_TRUE(pacer.MayPost(1ull << 40));
  pacer.OnPosted(1ull << 40, {});
  EXPECT_FALSE(pacer.MayPost(1));
  pacer.Forget();
  EXPECT_TRUE(pacer.MayPost(1));
  Pacer unbounded(0ms);
  unbounded.OnPosted(1ull << 40, {});
  EXPECT_TRUE(unbounded.MayPost(1ull << 40));
}

TEST(Crc32c, KnownValues) {
  const auto crc = [](const std::vector<uint8_t>& bytes) {
    const auto* data = reinterpret_cast<const std::byte*>(bytes.data());
    EXPECT_EQ(Crc32c(data, bytes.size()), Crc32cPortable(data, bytes.size()));
    return Crc32c(data, bytes.size());
  };
  // RFC 3720, B.4.
  EXPECT_EQ(crc(std::vector<uint8_t>(32, 0)), 0x8A9136AAu);
  EXPECT_EQ(crc(std::vector<uint8_t>(32, 0xFF)), 0x62A8AB43u);
  std::vector<uint8_t> up(32), down(32);
  for (uint8_t i = 0; i < 32; ++i) up[i] = i, down[i] = 31 - i;
  EXPECT_EQ(crc(up), 0x46DD794Eu);
  EXPECT_EQ(crc(down), 0x113FDB5Cu);
  EXPECT_EQ(crc({'1', '2', '3', '4', '5', '6', '7', '8', '9'}), 0xE3069283u);
  EXPECT_EQ(crc({}), 0u);
}

TEST(Crc32c, BothWaysAgreeAtEveryLength) {
  std::mt19937 random(5);
  std::vector<std::byte> data(20'000);
  for (std::byte& b : data) b = static_cast<std::byte>(random());
  for (size_t length = 0; length < 300; ++length)
    ASSERT_EQ(Crc32c(&data[length % 9], length), Crc32cPortable(&data[length % 9], length)) << length;
  for (int i = 0; i < 300; ++i) {
    const size_t at = random() % 100, length = random() % (data.size() - at);
    ASSERT_EQ(Crc32c(&data[at], length), Crc32cPortable(&data[at], length)) << at << "+" << length;
  }
}

TEST(FlightRecorder, KeepsTheNewest) {
  FlightRecorder recorder;
  const TimePoint now = TimePoint{} + 1h;
  EXPECT_TRUE(recorder.Dump(10, now).empty());
  for (uint64_t i = 0; i < 3 * FlightRecorder::kKept; ++i)
    recorder.Note(FlightRecorder::What::kSendDone, 7, i, i, now);
  const std::string all = recorder.Dump(~size_t{0}, now), few = recorder.Dump(2, now + 5ms);
  EXPECT_EQ(std::count(all.begin(), all.end(), '\n'), static_cast<long>(FlightRecorder::kKept));
  EXPECT_EQ(all.find(fmt::format("#{} ", 2 * FlightRecorder::kKept - 1)), std::string::npos);
  EXPECT_EQ(few, "  -5.000 ms peer 7 #3070 send done, writes 3070\n"
                 "  -5.000 ms peer 7 #3071 send done, writes 3071\n");
  for (int i = 0; i < 50; ++i) recorder.Note(FlightRecorder::What::kStray, 0, 3, 12288, now + i * 1ms);
  recorder.Note(FlightRecorder::What::kStray, 0, 4, 16384, now + 50ms);
  EXPECT_EQ(recorder.Dump(3, now + 50ms), "  -50.000 ms peer 7 #3071 send done, writes 3071\n"
                                          "  -1.000 ms peer 0 #3 stray arrival, immediate 12288 (50 times)\n"
                                          "  -0.000 ms peer 0 #4 stray arrival, immediate 16384\n");
  EXPECT_TRUE(recorder.MayDump(now));
  EXPECT_FALSE(recorder.MayDump(now + 1s));
  EXPECT_TRUE(recorder.MayDump(now + 1min));
  std::set<std::string_view> names;
  for (int i = 0; i <= static_cast<int>(FlightRecorder::What::kDeadline); ++i)
    names.insert(FlightRecorder::NameOf(static_cast<FlightRecorder::What>(i)));
  EXPECT_EQ(names.size(), static_cast<size_t>(FlightRecorder::What::kDeadline) + 1);
}

}  // namespace
}  // namespace baton::transfer
