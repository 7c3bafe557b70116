// The scheduler without engine, thread or clock: thousands of random lives (arrivals, aborts,
// reservations, peers that write late, holds, pools too small) with a model that reads back every
// KV byte through the page tables. Every row of logits must be what the request alone would get.
#include "engine/scheduler.h"

#include <map>
#include <random>
#include <set>

#include <gtest/gtest.h>

#include "engine/batch.h"
#include "engine/fake_model.h"

namespace baton::engine {
namespace {

class IgnoringObserver : public PrefillObserver {
 public:
  void OnKvReady(int, int, int, int, std::span<const PageId>) override {}
  void OnEnd(const Output&, std::shared_ptr<KvHold>) override {}
};

// A world with one scheduler, one fake model and its memory. What goes on in it depends on the
// seed only.
class World {
 public:
  explicit World(uint32_t seed) : random_(seed), seed_(seed) {
    options_.page_tokens = std::array{1, 2, 4, 8}[Pick(4)];
    options_.pages = 2 + Pick(60);
    options_.max_running = 1 + Pick(8);
    options_.step_tokens = options_.max_running + options_.page_tokens + Pick(40);
    options_.max_logit_rows = options_.max_running + Pick(10);
    options_.reserved_decode_tokens = std::array{0, 4, 1000}[Pick(3)];
    options_.prefix_cache = Pick(4) != 0;
    scheduler_ = std::make_unique<Scheduler>(options_);
    batch_ = std::make_unique<Batch>(options_.step_tokens, options_.max_running, options_.max_logit_rows);
    kv_.layout = model_.MakeKvLayout(options_.page_tokens, kernels::DType::kF32);
    kv_.pages = options_.pages;
    memory_.resize(kv_.layout.PageBytes() * static_cast<size_t>(options_.pages), std::byte{0x5A});
    kv_.base = memory_.data();
    capacity_tokens_ = options_.pages * options_.page_tokens;
  }

  void Run(int arrivals) {
    int quiet = 0;
    while (arrivals > 0 || !lives_.empty() || !peers_.empty() || !holds_.empty()) {
      if (arrivals > 0 && Pick(3) == 0) Arrive(), --arrivals;
      if (Pick(25) == 0) AbortSomebody();
      ActAsPeers();
      ReleaseSomeHolds(arrivals == 0);
      const bool worked = Step();
      quiet = worked || arrivals > 0 || !peers_.empty() || !holds_.empty() ? 0 : quiet + 1;
      ASSERT_LT(quiet, 200) << "stuck with " << lives_.size() << " requests, seed " << seed_;
      if (testing::Test::HasFatalFailure()) return;
    }
    ExpectEmpty();
  }

  const Scheduler::Counters& counters() const { return scheduler_->counters(); }
  int failed = 0, finished = 0, aborted = 0, expired = 0, started = 0;

 private:
  struct Life {
    std::vector<int32_t> tokens;  // prompt and what was emitted
    size_t prompt = 0;
    bool reservation = false;
    bool prefill_only = false;
  };
  struct Peer {  // writes a granted reservation
    std::vector<PageId> pages;
    std::vector<int32_t> prompt;
    int written = 0;
    bool dropped = false;  // will not start; keeps writing for a while
  };
  struct HeldKv {
    std::vector<int32_t> prompt;
    std::vector<PageId> pages;
  };

  int Pick(int below) { return static_cast<int>(random_() % static_cast<uint32_t>(below)); }

  void Arrive() {
    auto sequence = std::make_unique<Sequence>();
    Life life;
    const int most = std::max(1, std::min(capacity_tokens_, 90));
    const int length = 1 + Pick(most);
    const int kind = Pick(3);
    life.prompt = static_cast<size_t>(length);
    // Few distinct prompts, so that prefixes are shared.
    for (int i = 0; i < length; ++i) life.tokens.push_back(i < 40 ? kind : kind + i % 3);
    life.reservation = Pick(3) == 0;
    life.prefill_only = !life.reservation && Pick(4) == 0;
    Request& request = sequence->request;
    request.id = {++next_id_};
    if (life.prefill_only) request.observer = observer_;
    if (Pick(2)) request.end_ids = {0, 1};
    if (Pick(4) == 0) request.logprobs = {.enabled = true, .prompt_start = Pick(length + 2)};
    sequence->tokens = life.tokens;
    sequence->prompt_tokens = length;
    sequence->max_outputs = life.prefill_only ? Pick(2) : Pick(40);
    sequence->queued_at = now_;
    sequence->deadline = now_ + std::chrono::seconds(Pick(60));
    const RequestId id = request.id;
    if (life.reservation) {
      scheduler_->AddReservation(std::move(sequence));
    } else {
      scheduler_->Add(std::move(sequence));
    }
    lives_.emplace(id, std::move(life));
  }

  void AbortSomebody() {
    if (lives_.empty()) return;
    auto at = lives_.begin();
    std::advance(at, Pick(static_cast<int>(lives_.size())));
    scheduler_->Abort(at->first);
    scheduler_->Abort({next_id_ + 1000});  // nobody
  }

  // Peers write a few tokens at a time, in any order of peers, then start or drop.
  void ActAsPeers() {
    for (auto at = peers_.begin(); at != peers_.end();) {
      Peer& peer = at->second;
      const int length = static_cast<int>(peer.prompt.size());
      const int end = std::min(length, peer.written + Pick(30));
      FakeModel::WriteKv(kv_, peer.prompt, peer.written, end, peer.pages);
      peer.written = end;
      if (Pick(20) == 0) peer.dropped = true;
      if (peer.dropped && Pick(3) == 0) {
        EXPECT_NE(scheduler_->ReleaseReservation(at->first), nullptr);
        lives_.erase(at->first);
        at = peers_.erase(at);
      } else if (!peer.dropped && peer.written == length && Pick(2)) {
        Start(at->first, peer);
        at = peers_.erase(at);
      } else {
        ++at;
      }
    }
  }

  void Start(RequestId id, const Peer& peer) {
    ++started;
    Progress progress;
    const int32_t first = Greedy(FakeModel::LogitsBehind(peer.prompt));
    Sequence* const sequence = scheduler_->Start(id, first, &progress);
    ASSERT_NE(sequence, nullptr);
    if (progress.has_token) lives_.at(id).tokens.push_back(first);
    if (progress.finish != Finish::kRunning) EndWell(*sequence);
  }

  void ReleaseSomeHolds(bool hurry) {
    for (auto at = holds_.begin(); at != holds_.end();) {
      if (!hurry && Pick(4)) {
        ++at;
        continue;
      }
      EXPECT_TRUE(FakeModel::HoldsKv(kv_, at->second.prompt, at->second.pages)) << "a held page changed";
      scheduler_->ReleaseHold(at->first);
      at = holds_.erase(at);
    }
  }

  bool Step() {
    now_ += std::chrono::milliseconds(Pick(2000));
    const StepPlan& plan = scheduler_->Plan(now_);
    HandleNotices();
    if (plan.empty()) return false;
    CheckPlan(plan);
    batch_->Build(plan);
    const std::span<const float> logits = model_.Forward(batch_->input(nullptr), kv_);
    size_t row = 0;
    for (const PlanItem& item : plan.items) {
      for (int position = item.logit_begin; position < item.logit_end; ++position, ++row) {
        CheckLogits(item, position, logits.subspan(row * FakeModel::kVocab, FakeModel::kVocab));
      }
      FinishItem(item);
    }
    return true;
  }

  void CheckPlan(const StepPlan& plan) {
    int rows = 0, logit_rows = 0;
    std::set<PageId> written;
    for (const PlanItem& item : plan.items) {
      rows += item.count;
      logit_rows += item.logit_end - item.logit_begin;
      EXPECT_EQ(item.begin, item.sequence->computed);
      EXPECT_GT(item.count, 0);
      EXPECT_EQ(item.completes, item.begin + item.count == item.sequence->length());
      // Pages that this step writes have one writer, and nobody else holds them.
      for (int p = item.begin / options_.page_tokens; p <= (item.begin + item.count - 1) / options_.page_tokens; ++p) {
        const PageId page = item.sequence->pages.at(static_cast<size_t>(p));
        EXPECT_TRUE(written.insert(page).second);
        EXPECT_EQ(scheduler_->pool().owner(page), PageOwner::kSequence);
      }
    }
    EXPECT_EQ(rows, plan.rows);
    EXPECT_LE(rows, options_.step_tokens);
    EXPECT_EQ(logit_rows, plan.logit_rows);
    EXPECT_LE(logit_rows, options_.max_logit_rows);
    EXPECT_LE(static_cast<int>(plan.items.size()), options_.max_running);
  }

  void CheckLogits(const PlanItem& item, int position, std::span<const float> got) {
    const Life& life = lives_.at(item.sequence->id());
    ASSERT_LT(static_cast<size_t>(position), life.tokens.size());
    const auto prefix = std::span(life.tokens).first(static_cast<size_t>(position) + 1);
    const std::vector<float> expected = FakeModel::LogitsBehind(prefix);
    ASSERT_TRUE(std::ranges::equal(got, expected)) << "seed " << seed_ << " position " << position;
    last_logits_.assign(got.begin(), got.end());
  }

  static int32_t Greedy(std::span<const float> logits) {
    return static_cast<int32_t>(std::ranges::max_element(logits) - logits.begin());
  }

  void FinishItem(const PlanItem& item) {
    Sequence& sequence = *item.sequence;
    const int32_t token = item.samples ? Greedy(last_logits_) : -1;
    const std::vector<PageId> seen_by_transfer = sequence.pages;
    const Progress progress = scheduler_->Commit(item, token);
    Life& life = lives_.at(sequence.id());
    if (progress.has_token) life.tokens.push_back(token);
    if (progress.finish == Finish::kRunning) return;
    if (life.prefill_only) {
      holds_[sequence.id()] = {{life.tokens.begin(), life.tokens.begin() + static_cast<ptrdiff_t>(life.prompt)},
                               seen_by_transfer};
    }
    EndWell(sequence);
  }

  void EndWell(Sequence& sequence) {
    const Life& life = lives_.at(sequence.id());
    EXPECT_EQ(sequence.tokens, life.tokens);
    EXPECT_LE(sequence.outputs(), std::max(sequence.max_outputs, 0));
    const RequestId id = sequence.id();
    EXPECT_NE(scheduler_->Retire(sequence), nullptr);
    lives_.erase(id);
    ++finished;
  }

  void HandleNotices() {
    for (Notice& notice : scheduler_->TakeNotices()) {
      if (notice.kind == Notice::Kind::kGranted) {
        const Sequence& granted = *notice.granted;
        peers_[granted.id()] = {granted.pages, granted.tokens, granted.cached_tokens, false};
        continue;
      }
      const RequestId id = notice.sequence->id();
      ASSERT_TRUE(lives_.contains(id)) << "ended twice";
      if (notice.kind == Notice::Kind::kReservationFailed) {
        EXPECT_FALSE(notice.status.ok());
        ++expired;
      } else if (notice.finish == Finish::kFailed) {
        EXPECT_EQ(notice.status.code(), Code::kResourceExhausted);
        ++failed;
      } else {
        EXPECT_EQ(notice.finish, Finish::kAborted);
        ++aborted;
      }
      EXPECT_EQ(notice.sequence->tokens, lives_.at(id).tokens);
      if (lives_.at(id).prefill_only) scheduler_->ReleaseHold(id);
      lives_.erase(id);
    }
  }

  void ExpectEmpty() {
    const PagePool& pool = scheduler_->pool();
    EXPECT_EQ(pool.count(PageOwner::kSequence), 0) << seed_;
    EXPECT_EQ(pool.count(PageOwner::kReservation), 0) << seed_;
    EXPECT_EQ(pool.count(PageOwner::kHold), 0) << seed_;
    EXPECT_EQ(scheduler_->cache().evictable(), pool.count(PageOwner::kCache)) << seed_;
    EXPECT_EQ(scheduler_->active() + scheduler_->waiting() + scheduler_->reserving() + scheduler_->reserved(), 0);
    EXPECT_TRUE(scheduler_->FlushCache().ok());
    EXPECT_EQ(pool.free_pages(), pool.total()) << seed_;
  }

  std::mt19937 random_;
  const uint32_t seed_;
  SchedulerOptions options_;
  std::unique_ptr<Scheduler> scheduler_;
  std::unique_ptr<Batch> batch_;
  FakeModel model_;
  kernels::KvPool kv_;
  std::vector<std::byte> memory_;
  int capacity_tokens_ = 0;
  std::shared_ptr<PrefillObserver> observer_ = std::make_shared<IgnoringObserver>();
  uint64_t next_id_ = 0;
  TimePoint now_{};
  std::map<RequestId, Life> lives_;
  std::map<RequestId, Peer> peers_;
  std::map<RequestId, HeldKv> holds_;
  std::vector<float> last_logits_;
};

TEST(SchedulerTest, RandomLivesGiveEachRequestItsOwnTokens) {
  uint64_t retractions = 0, cached = 0, evicted = 0;
  int failed = 0, finished = 0, aborted = 0, expired = 0, started = 0;
  for (uint32_t seed = 0; seed < 3000; ++seed) {
    World world(seed);
    world.Run(25);
    if (testing::Test::HasFatalFailure()) FAIL() << "seed " << seed;
    if (testing::Test::HasNonfatalFailure()) FAIL() << "seed " << seed;
    retractions += world.counters().retractions;
    cached += world.counters().cached_tokens;
    evicted += world.counters().evicted_pages;
    failed += world.failed;
    finished += world.finished;
    aborted += world.aborted;
    expired += world.expired;
    started += world.started;
  }
  // The worlds must have been rough ones.
  EXPECT_GT(retractions, 1000u);
  EXPECT_GT(cached, 10000u);
  EXPECT_GT(evicted, 10000u);
  EXPECT_GT(finished, 30000);
  EXPECT_GT(failed, 100);
  EXPECT_GT(aborted, 1000);
  EXPECT_GT(expired, 100);
  EXPECT_GT(started, 5000);
}

// ------------------------------------------------------------------- single decisions

std::unique_ptr<Sequence> MakeSequence(uint64_t id, int prompt, int max_outputs) {
  auto sequence = std::make_unique<Sequence>();
  sequence->request.id = {id};
  for (int i = 0; i < prompt; ++i) sequence->tokens.push_back(static_cast<int32_t>(id * 1000) + i);
  sequence->prompt_tokens = prompt;
  sequence->max_outputs = max_outputs;
  sequence->queued_at = TimePoint(std::chrono::seconds(id));
  return sequence;
}

constexpr SchedulerOptions kOptions{.pages = 10, .page_tokens = 4, .max_running = 4, .step_tokens = 16,
                                    .max_logit_rows = 8, .reserved_decode_tokens = 8};

void CommitAll(Scheduler& scheduler, const StepPlan& plan) {
  const std::vector<PlanItem> items = plan.items;
  for (const PlanItem& item : items) scheduler.Commit(item, 5);
}

TEST(SchedulerTest, ChunksEndAtPageBordersAndDecodesGoFirst) {
  Scheduler scheduler({.pages = 100, .page_tokens = 4, .max_running = 4, .step_tokens = 16, .max_logit_rows = 8});
  scheduler.Add(MakeSequence(1, 3, 20));
  scheduler.Add(MakeSequence(2, 30, 20));
  const StepPlan& first = scheduler.Plan({});
  ASSERT_EQ(first.items.size(), 2u);
  EXPECT_TRUE(first.items[0].samples);
  EXPECT_EQ(first.items[1].count, 12);  // 13 are left; cut at the page
  EXPECT_FALSE(first.items[1].samples);
  EXPECT_EQ(first.logit_rows, 1);
  CommitAll(scheduler, first);
  const StepPlan& second = scheduler.Plan({});
  ASSERT_EQ(second.items.size(), 2u);
  EXPECT_EQ(second.items[0].sequence->id().value, 1u);
  EXPECT_FALSE(second.items[0].prefill);
  EXPECT_EQ(second.items[1].begin, 12);
  EXPECT_EQ(second.items[1].count, 12);
  CommitAll(scheduler, second);
  const StepPlan& third = scheduler.Plan({});
  EXPECT_EQ(third.items[1].count, 6);
  EXPECT_TRUE(third.items[1].samples);
}

TEST(SchedulerTest, AdmissionKeepsHeadRoomForThoseAdmitted) {
  Scheduler scheduler(kOptions);  // 10 pages of 4
  scheduler.Add(MakeSequence(1, 16, 100));  // 4 pages + 2 of head-room
  scheduler.Add(MakeSequence(2, 16, 100));  // 4 + 2 more: too much
  EXPECT_EQ(scheduler.Plan({}).items.size(), 1u);
  EXPECT_EQ(scheduler.waiting(), 1);

  Scheduler roomy(kOptions);
  roomy.Add(MakeSequence(1, 16, 1));  // nothing to grow
  roomy.Add(MakeSequence(2, 12, 5));  // 3 + 1
  CommitAll(roomy, roomy.Plan({}));
  roomy.Plan({});
  EXPECT_EQ(roomy.active(), 2);
}

TEST(SchedulerTest, RetractsTheOneWithTheFewestOutputsAndRunsItFirstAgain) {
  SchedulerOptions options = kOptions;
  options.reserved_decode_tokens = 0;
  Scheduler scheduler(options);
  scheduler.Add(MakeSequence(1, 15, 100));
  CommitAll(scheduler, scheduler.Plan({}));
  scheduler.Add(MakeSequence(2, 15, 100));
  CommitAll(scheduler, scheduler.Plan({}));
  scheduler.Add(MakeSequence(3, 15, 100));
  for (int i = 0; i < 100 && scheduler.counters().retractions == 0; ++i) CommitAll(scheduler, scheduler.Plan({}));
  ASSERT_EQ(scheduler.counters().retractions, 1u);
  EXPECT_EQ(scheduler.retracted(), 1);
  EXPECT_EQ(scheduler.active(), 1);
  scheduler.Abort({1});  // was the older one, with more outputs: it stayed
  const auto notices = scheduler.TakeNotices();
  ASSERT_EQ(notices.size(), 1u);
  EXPECT_EQ(notices[0].sequence->retractions, 0);
  const StepPlan& plan = scheduler.Plan({});
  ASSERT_FALSE(plan.empty());
  EXPECT_EQ(plan.items[0].sequence->id().value, 2u) << "the retracted one goes before the third";
}

TEST(SchedulerTest, LaterReservationsDoNotOvertake) {
  Scheduler scheduler(kOptions);
  auto big = MakeSequence(1, 36, 1), bigger = MakeSequence(2, 36, 1), small = MakeSequence(3, 4, 1);
  for (auto* sequence : {&big, &bigger, &small}) (*sequence)->deadline = TimePoint::max();
  scheduler.AddReservation(std::move(big));
  scheduler.AddReservation(std::move(bigger));
  scheduler.AddReservation(std::move(small));
  scheduler.Plan({});
  EXPECT_EQ(scheduler.TakeNotices().size(), 1u);  // one page is free, but the third waits its turn
  EXPECT_EQ(scheduler.reserving(), 2);
  EXPECT_EQ(scheduler.pool().count(PageOwner::kReservation), 9);
  scheduler.ReleaseReservation({1});
  scheduler.Plan({});
  const auto notices = scheduler.TakeNotices();
  ASSERT_EQ(notices.size(), 2u);
  EXPECT_EQ(notices[0].granted->id().value, 2u);
  EXPECT_EQ(notices[1].granted->id().value, 3u);
}

TEST(SchedulerTest, ReservationsExpireAtTheirDeadline) {
  Scheduler scheduler(kOptions);
  auto first = MakeSequence(1, 36, 1), second = MakeSequence(2, 36, 1);
  first->deadline = second->deadline = TimePoint(100s);
  scheduler.AddReservation(std::move(first));
  scheduler.AddReservation(std::move(second));
  scheduler.Plan(TimePoint(50s));
  EXPECT_EQ(scheduler.TakeNotices().size(), 1u);
  EXPECT_EQ(scheduler.NextDeadline(), TimePoint(100s));
  scheduler.Plan(TimePoint(100s));
  const auto notices = scheduler.TakeNotices();
  ASSERT_EQ(notices.size(), 1u);
  EXPECT_EQ(notices[0].status.code(), Code::kDeadlineExceeded);
  EXPECT_EQ(scheduler.NextDeadline(), TimePoint::max());
  EXPECT_EQ(scheduler.reserved(), 1) << "a granted one stays until its holder drops it";
}

TEST(SchedulerTest, ReservationsMatchAllFullPagesAndRequestsLeaveAToken) {
  Scheduler scheduler(kOptions);
  scheduler.Add(MakeSequence(1, 8, 1));
  const StepPlan& plan = scheduler.Plan({});
  Sequence& sequence = *plan.items[0].sequence;
  const std::vector<int32_t> prompt = sequence.tokens;
  CommitAll(scheduler, plan);
  scheduler.Retire(sequence);

  auto reservation = MakeSequence(2, 8, 1);
  reservation->tokens = prompt;
  reservation->deadline = TimePoint::max();
  scheduler.AddReservation(std::move(reservation));
  auto again = MakeSequence(3, 8, 1);
  again->tokens = prompt;
  scheduler.Add(std::move(again));
  const StepPlan& next = scheduler.Plan({});
  const auto notices = scheduler.TakeNotices();
  ASSERT_EQ(notices.size(), 1u);
  EXPECT_EQ(notices[0].granted->cached_tokens, 8);
  ASSERT_EQ(next.items.size(), 1u);
  EXPECT_EQ(next.items[0].begin, 4);
  EXPECT_EQ(next.cached_tokens, 4);
}

TEST(SchedulerTest, IdenticalPromptsShareAsTheyAreComputed) {
  Scheduler scheduler({.pages = 100, .page_tokens = 4, .max_running = 4, .step_tokens = 16, .max_logit_rows = 8});
  const std::vector<int32_t> prompt = MakeSequence(1, 40, 1)->tokens;
  for (uint64_t id = 1; id <= 4; ++id) {
    auto sequence = MakeSequence(id, 40, 1);
    sequence->tokens = prompt;
    scheduler.Add(std::move(sequence));
  }
  int steps = 0, finished = 0;
  for (; finished < 4 && steps < 50; ++steps) {
    const std::vector<PlanItem> items = scheduler.Plan({}).items;
    for (const PlanItem& item : items) {
      if (scheduler.Commit(item, 5).finish == Finish::kRunning) continue;
      scheduler.Retire(*item.sequence);
      ++finished;
    }
  }
  EXPECT_EQ(finished, 4);
  EXPECT_LE(scheduler.counters().prompt_tokens, 40u + 3 * 4u + 8u) << "later ones compute a page at most";
}

TEST(SchedulerTest, AnIdInUseIsRefused) {
  Scheduler scheduler(kOptions);
  scheduler.Add(MakeSequence(1, 8, 1));
  scheduler.Add(MakeSequence(1, 8, 1));
  const auto notices = scheduler.TakeNotices();
  ASSERT_EQ(notices.size(), 1u);
  EXPECT_EQ(notices[0].finish, Finish::kFailed);
  EXPECT_EQ(scheduler.waiting(), 1);
}

}  // namespace
}  // namespace baton::engine
