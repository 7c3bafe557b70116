// The pure half of Kubernetes discovery: what pods mean, what the protocol asks for next.
#include "router/discovery/pod_follower.h"

#include <algorithm>
#include <map>
#include <optional>
#include <random>

#include <gtest/gtest.h>

#include "router/discovery/line_splitter.h"
#include "router/discovery/test_pods.h"

namespace baton::router {
namespace {

using namespace test;  // NOLINT

KubeOptions Options() {
  KubeOptions o;
  o.enabled = true;
  o.prefill_selector = {{"app", "baton"}, {"role", "prefill"}};
  o.decode_selector = {{"app", "baton"}, {"role", "decode"}};
  o.port = 30'000;
  o.space = "llm";
  return o;
}

Pod Read(const PodSpec& spec) {
  auto pod = ReadPod(PodJson(spec), Options(), true);
  EXPECT_TRUE(pod.ok()) << pod.status().ToString();
  return pod.ok() ? *pod : Pod{};
}

// "prefill http://10.0.0.1:30000" with " draining", sorted.
std::vector<std::string> Names(const std::vector<WantedWorker>& wanted) {
  std::vector<std::string> names;
  for (const WantedWorker& w : wanted) {
    names.push_back(fmt::format("{} {}{}", RoleName(w.config.role), w.config.url, w.draining ? " draining" : ""));
  }
  std::sort(names.begin(), names.end());
  return names;
}
using Strings = std::vector<std::string>;

TEST(KubePod, SelectorsChooseTheRole) {
  EXPECT_EQ(Read({.role = "prefill"}).role, Role::kPrefill);
  EXPECT_EQ(Read({.role = "decode"}).role, Role::kDecode);
  EXPECT_EQ(Read({.role = "other"}).role, std::nullopt);
  KubeOptions regular;
  regular.selector = {{"app", "baton"}};
  EXPECT_EQ(ReadPod(PodJson({}), regular, false)->role, Role::kRegular);
  regular.selector = {{"app", "baton"}, {"tier", "gold"}};
  EXPECT_EQ(ReadPod(PodJson({}), regular, false)->role, std::nullopt);
  EXPECT_FALSE(ReadPod(*json::Parse(R"({"metadata":{"name":"x"}})")->if_object(), Options(), true).ok());
}

TEST(KubePod, StatesFollowPhaseReadinessAndDeletion) {
  const auto state = [](PodSpec spec) { return Read(spec).state; };
  EXPECT_EQ(state({}), PodState::kServing);
  EXPECT_EQ(state({.ready = false}), PodState::kPaused);
  EXPECT_EQ(state({.phase = "Unknown"}), PodState::kPaused);
  EXPECT_EQ(state({.phase = "Pending"}), PodState::kWaiting);
  EXPECT_EQ(state({.ip = ""}), PodState::kWaiting);
  EXPECT_EQ(state({.ip = "not an address"}), PodState::kWaiting);
  EXPECT_EQ(state({.deleting = true}), PodState::kEnding);
  EXPECT_EQ(state({.phase = "Failed"}), PodState::kOver);
  EXPECT_EQ(state({.phase = "Succeeded", .deleting = true}), PodState::kOver);
}

TEST(KubePod, PortsComeFromAnnotationsAndLabels) {
  const auto ports = [](json::object annotations, std::string role = "prefill") {
    return Read({.role = std::move(role), .annotations = std::move(annotations)}).ports;
  };
  using Ports = std::vector<PodPort>;
  EXPECT_EQ(ports({}), (Ports{{30'000, std::nullopt}}));
  EXPECT_EQ(ports({{"sglang.ai/bootstrap-port", "8998"}}), (Ports{{30'000, 8998}}));
  EXPECT_EQ(ports({{"sglang.ai/bootstrap-port", "8998"}}, "decode"), (Ports{{30'000, std::nullopt}}));
  EXPECT_EQ(ports({{"baton/http-port", "31000, 31001"}, {"sglang.ai/bootstrap-port", "9001,9002"}}), (Ports{{31'000, 9001}, {31'001, 9002}}));
  for (const char* bad : {"0", "65536", "-1", "80x", "", "80,80", "80,,81", "1,"}) {
    EXPECT_EQ(ports({{"baton/http-port", bad}}), (Ports{{30'000, std::nullopt}})) << bad;
    EXPECT_EQ(ports({{"sglang.ai/bootstrap-port", bad}}), (Ports{{30'000, std::nullopt}})) << bad;
  }
  const Pod odd = Read({.annotations = {{"baton/http-port", "1,2"}, {"sglang.ai/bootstrap-port", "9"}}});
  EXPECT_EQ(odd.ports, (Ports{{1, std::nullopt}, {2, std::nullopt}}));
  EXPECT_NE(odd.warning.find("lists 1 ports for 2 servers"), std::string::npos) << odd.warning;
}

TEST(KubePod, TheServerIsAskedForWhatBothRolesShare) {
  EXPECT_EQ(ServerSideSelector(Options(), true), "app=baton,role in (prefill,decode)");
  KubeOptions o = Options();
  o.decode_selector = {{"kind", "d"}};
  EXPECT_EQ(ServerSideSelector(o, true), "");
  o.decode_selector.clear();
  EXPECT_EQ(ServerSideSelector(o, true), "app=baton,role=prefill");
}

TEST(PodTable, ReadyTogglesDrainAndResume) {
  PodTable table;
  table.OnUpsert(Read({.ready = false}));
  EXPECT_EQ(Names(table.Wanted()), Strings{});
  table.OnUpsert(Read({}));
  const auto key = table.Wanted().at(0).key;
  EXPECT_EQ(Names(table.Wanted()), Strings{"prefill http://10.0.0.1:30000"});
  table.OnUpsert(Read({.ready = false}));
  EXPECT_EQ(Names(table.Wanted()), Strings{"prefill http://10.0.0.1:30000 draining"});
  table.OnUpsert(Read({}));
  EXPECT_EQ(Names(table.Wanted()), Strings{"prefill http://10.0.0.1:30000"});
  EXPECT_EQ(table.Wanted().at(0).key, key);
  EXPECT_TRUE(table.TakeDead().empty());
}

TEST(PodTable, DeletionDrainsAndTheEndIsTold) {
  PodTable table;
  table.OnUpsert(Read({}));
  const auto key = table.Wanted().at(0).key;
  table.OnUpsert(Read({.deleting = true}));
  EXPECT_TRUE(table.Wanted().at(0).draining);
  EXPECT_TRUE(table.TakeDead().empty());
  table.OnDelete(Read({.deleting = true}));
  EXPECT_TRUE(table.Wanted().empty());
  EXPECT_EQ(table.TakeDead(), std::set<std::string>{key});
  // A pod that only left the selector goes on with what it has.
  table.OnUpsert(Read({}));
  table.OnDelete(Read({}));
  EXPECT_TRUE(table.Wanted().empty());
  EXPECT_TRUE(table.TakeDead().empty());
  // The end of the containers, whether or not the address is still told.
  table.OnUpsert(Read({}));
  table.OnUpsert(Read({.ip = "", .phase = "Failed"}));
  EXPECT_TRUE(table.Wanted().empty());
  EXPECT_EQ(table.TakeDead(), std::set<std::string>{key});
}

TEST(PodTable, AnAddressBelongsToTheNewestPod) {
  PodTable table;
  table.OnUpsert(Read({.uid = "old"}));
  const auto old_key = table.Wanted().at(0).key;
  // Its deletion was not seen yet when the next one gets the address, in another role at that.
  table.OnUpsert(Read({.uid = "a-new", .role = "decode", .created = "2026-01-01T00:00:09Z"}));
  EXPECT_EQ(Names(table.Wanted()), Strings{"decode http://10.0.0.1:30000"});
  EXPECT_NE(table.Wanted().at(0).key, old_key);
  table.OnDelete(Read({.uid = "old", .deleting = true}));
  EXPECT_EQ(Names(table.Wanted()), Strings{"decode http://10.0.0.1:30000"});
  EXPECT_EQ(table.TakeDead(), std::set<std::string>{old_key});
}

TEST(PodTable, AListReplacesEverything) {
  PodTable table;
  for (const char* uid : {"a", "b", "c"}) table.OnUpsert(Read({.uid = uid, .ip = fmt::format("10.0.0.{}", uid[0] - '`')}));
  table.OnList({Read({.uid = "b", .ip = "10.0.0.2", .ready = false}), Read({.uid = "d", .ip = "10.0.0.4"}), Read({.uid = "e", .ip = "10.0.0.5", .ready = false})});
  EXPECT_EQ(Names(table.Wanted()), (Strings{"prefill http://10.0.0.2:30000 draining", "prefill http://10.0.0.4:30000"}));
  table.OnList({Read({.uid = "b", .ip = "fd00::2", .role = "decode"})});
  EXPECT_EQ(Names(table.Wanted()), Strings{"decode http://[fd00::2]:30000"});
}

TEST(PodFollower, ListsInPagesThenWatches) {
  PodFollower f(Options(), true, 1);
  auto next = f.Next();
  EXPECT_FALSE(next.watch);
  EXPECT_EQ(next.target, "/api/v1/namespaces/llm/pods?labelSelector=app%3Dbaton%2Crole%20in%20%28prefill%2Cdecode%29&limit=250");
  f.OnList(200, ListJson({{.uid = "a", .ip = "10.0.0.1"}}, 70, "to/ken=="));
  EXPECT_FALSE(f.synced());
  EXPECT_FALSE(f.TakeChanged());
  EXPECT_TRUE(f.Wanted().empty());
  EXPECT_TRUE(f.Next().target.ends_with("&limit=250&continue=to%2Fken%3D%3D"));
  f.OnList(200, ListJson({{.uid = "b", .ip = "10.0.0.2", .role = "decode"}}, 70));
  EXPECT_TRUE(f.synced());
  EXPECT_TRUE(f.TakeChanged());
  EXPECT_EQ(Names(f.Wanted()), (Strings{"decode http://10.0.0.2:30000", "prefill http://10.0.0.1:30000"}));
  next = f.Next();
  EXPECT_TRUE(next.watch);
  EXPECT_EQ(next.wait, Duration::zero());
  EXPECT_NE(next.target.find("watch=1&allowWatchBookmarks=true&resourceVersion=70&timeoutSeconds="), std::string::npos) << next.target;
}

PodFollower Watching(const std::vector<PodSpec>& pods, int64_t version = 10) {
  PodFollower f(Options(), true, 1);
  f.OnList(200, ListJson(pods, version));
  EXPECT_TRUE(f.Next().watch);
  (void)f.TakeChanged();
  return f;
}

bool WatchesFrom(PodFollower& f, int64_t version) {
  const auto next = f.Next();
  return next.watch && next.target.find(fmt::format("resourceVersion={}&", version)) != std::string::npos;
}

TEST(PodFollower, EventsAndBookmarksMoveTheVersion) {
  PodFollower f = Watching({{}});
  EXPECT_TRUE(f.OnWatchLine(EventJson("ADDED", {.uid = "u2", .ip = "10.0.0.2", .version = 11})));
  EXPECT_TRUE(f.TakeChanged());
  EXPECT_EQ(f.Wanted().size(), 2u);
  EXPECT_TRUE(f.OnWatchLine(BookmarkJson(500)));
  EXPECT_FALSE(f.TakeChanged());
  f.OnWatchEnd(300s);
  EXPECT_TRUE(WatchesFrom(f, 500));
  EXPECT_EQ(f.Next().wait, Duration::zero());
  EXPECT_TRUE(f.OnWatchLine(EventJson("DELETED", {.version = 501})));
  EXPECT_EQ(Names(f.Wanted()), Strings{"prefill http://10.0.0.2:30000"});
  EXPECT_TRUE(WatchesFrom(f, 501));
}

TEST(PodFollower, GoneMeansListAgainAndKeepsWhatIsKnown) {
  for (const bool as_event : {false, true}) {
    PodFollower f = Watching({{}});
    if (as_event) {
      EXPECT_FALSE(f.OnWatchLine(ErrorJson(410)));
    } else {
      f.OnWatchRefused(410, R"({"kind":"Status","code":410})");
    }
    EXPECT_FALSE(f.Next().watch);
    EXPECT_EQ(f.Next().wait, Duration::zero());
    EXPECT_EQ(f.Wanted().size(), 1u);
    // A deletion that no event told is found by the list.
    f.OnList(200, ListJson({}, 90));
    EXPECT_TRUE(f.Wanted().empty());
    EXPECT_TRUE(WatchesFrom(f, 90));
  }
}

TEST(PodFollower, AServerThatSaysGoneToEachWatchIsAskedLessAndLess) {
  PodFollower f = Watching({{}});
  Duration last{};
  for (int i = 0; i < 12; ++i) {
    f.OnWatchRefused(410, "");
    last = f.Next().wait;
    f.OnList(200, ListJson({{}}, 20 + i));
  }
  EXPECT_GE(last, 15s);
}

TEST(PodFollower, PagesThatExpireAreAskedForAtOnce) {
  PodFollower f(Options(), true, 1);
  f.OnList(200, ListJson({{}}, 10, "t1"));
  f.OnList(410, R"({"kind":"Status","code":410,"message":"The provided continue parameter is too old"})");
  EXPECT_EQ(f.Next().target.find("limit="), std::string::npos) << f.Next().target;
  EXPECT_EQ(f.Next().target.find("continue="), std::string::npos);
  f.OnList(200, ListJson({{.uid = "b"}}, 11));
  EXPECT_EQ(f.Wanted().size(), 1u);
}

TEST(PodFollower, RefusalsNameTheRule) {
  PodFollower f(Options(), true, 1);
  f.OnList(403, R"({"kind":"Status","message":"pods is forbidden"})");
  EXPECT_NE(f.problem().find("pods is forbidden"), std::string::npos);
  EXPECT_NE(f.problem().find(R"(Role in namespace llm with the rule apiGroups: [""], resources: ["pods"], verbs: ["get", "list", "watch"])"), std::string::npos) << f.problem();
  EXPECT_GT(f.Next().wait, Duration::zero());
  f.OnList(401, "Unauthorized");
  EXPECT_NE(f.problem().find("--kube-token-file"), std::string::npos) << f.problem();
  f.OnList(200, ListJson({}, 1));
  EXPECT_EQ(f.problem(), "");
  f.OnWatchRefused(429, "slow down", 7s);
  EXPECT_GE(f.Next().wait, 7s);
}

TEST(PodFollower, NothingIsForgottenWhileTheServerIsAway) {
  PodFollower f = Watching({{}});
  Duration longest{};
  for (int i = 0; i < 40; ++i) {
    f.OnUnreachable("connection refused");
    longest = std::max(longest, f.Next().wait);
  }
  EXPECT_LE(longest, 30s);
  EXPECT_GE(longest, 15s);
  EXPECT_EQ(f.Wanted().size(), 1u);
  EXPECT_TRUE(WatchesFrom(f, 10));
  f.OnWatchEnd(1ms);
  EXPECT_GT(f.Next().wait, Duration::zero()) << "a watch that ends at once is not repeated in a loop";
}

TEST(PodFollower, GarbageIsListedAgain) {
  for (const char* line : {"{", "[]", "{}", R"({"type":"ADDED"})", R"({"type":"ADDED","object":{"metadata":{"resourceVersion":"5"}}})",
                           R"({"type":"WHAT","object":{"metadata":{"resourceVersion":"5","uid":"x"}}})", "\xff"}) {
    PodFollower f = Watching({{}});
    EXPECT_FALSE(f.OnWatchLine(line)) << line;
    EXPECT_FALSE(f.Next().watch) << line;
    EXPECT_GT(f.Next().wait, Duration::zero()) << line;
    EXPECT_EQ(f.Wanted().size(), 1u);
  }
  for (const char* body : {"", "null", "{}", R"({"metadata":{}})", R"({"metadata":{"resourceVersion":"5"}})", R"({"metadata":{"resourceVersion":"5"},"items":3})"}) {
    PodFollower f(Options(), true, 1);
    f.OnList(200, body);
    EXPECT_FALSE(f.synced()) << body;
    EXPECT_FALSE(f.problem().empty());
  }
}

// A cluster that lives by chance, a server that tells of it with every fault there is, and a follower.
// Whatever happened, once it has caught up it knows exactly what the cluster holds.
class World {
 public:
  explicit World(uint64_t seed) : random_(seed), follower_(Options(), true, seed) {}

  void Run(int steps) {
    for (int i = 0; i < steps; ++i) {
      if (Chance(60)) Change();
      Talk();
    }
    for (int i = 0; i < 3000 && !(follower_.synced() && told_ == log_.size() && watching_); ++i) TalkHonestly();
    CheckEqual();
  }

 private:
  struct Event {
    std::string type;
    PodSpec pod;
  };
  bool Chance(int percent) { return static_cast<int>(random_() % 100) < percent; }

  void Change() {
    ++version_;
    const bool create = pods_.empty() || (Chance(30) && pods_.size() < 12);
    if (create) {
      PodSpec pod;
      pod.uid = fmt::format("u{}", ++next_uid_);
      pod.ip = Chance(15) ? "" : FreeAddress();
      pod.role = Chance(45) ? "prefill" : Chance(80) ? "decode" : "none";
      pod.ready = Chance(50);
      pod.created = fmt::format("2026-01-01T00:00:00.{:06}Z", version_);
      Put("ADDED", pod);
      return;
    }
    PodSpec pod = std::next(pods_.begin(), static_cast<ptrdiff_t>(random_() % pods_.size()))->second;
    switch (random_() % 6) {
      case 0: pod.ready = !pod.ready; break;
      case 1: pod.deleting = true; break;
      case 2: pod.phase = Chance(50) ? "Failed" : "Unknown"; break;
      case 3: if (pod.ip.empty()) pod.ip = FreeAddress(); break;
      case 4: pod.annotations = {{"baton/http-port", Chance(50) ? "31000" : "31000,31001"}}; break;
      default:
        pod.version = version_;
        pods_.erase(pod.uid);
        log_.push_back({"DELETED", pod});
        served_.erase(pod.uid);
        return;
    }
    Put("MODIFIED", pod);
  }
  void Put(const char* type, PodSpec pod) {
    pod.version = version_;
    pods_[pod.uid] = pod;
    log_.push_back({type, pod});
  }
  std::string FreeAddress() {
    while (true) {  // a dozen pods and 20 addresses: reuse is common
      const std::string ip = fmt::format("10.0.0.{}", 1 + random_() % 20);
      if (std::none_of(pods_.begin(), pods_.end(), [&](const auto& p) { return p.second.ip == ip; })) return ip;
    }
  }

  // One exchange with the server, which may fail in any way.
  void Talk() {
    if (!watching_) {
      const auto next = follower_.Next();
      if (Chance(15)) return follower_.OnUnreachable("chance");
      if (!next.watch) return AnswerList(next.target, Chance(12));
      if (Chance(10)) return follower_.OnWatchRefused(Chance(50) ? 410 : 500, "");
      watching_ = true;
      return;
    }
    if (Chance(12)) {
      watching_ = false;
      return follower_.OnWatchEnd(Chance(50) ? 1ms : 60s);
    }
    if (Chance(4)) {
      watching_ = false;
      EXPECT_FALSE(follower_.OnWatchLine(Chance(50) ? ErrorJson(410) : std::string("{\"type\":\"ADD")));
      return;
    }
    TellOne();
  }
  void TalkHonestly() {
    if (watching_) return TellOne();
    const auto next = follower_.Next();
    if (next.watch) watching_ = true;
    else AnswerList(next.target, false);
  }
  void AnswerList(const std::string& target, bool fail) {
    if (fail) return follower_.OnList(Chance(30) ? 410 : 503, "no");
    // Two pages, as of one moment.
    const bool second = target.find("continue=") != std::string::npos;
    if (!second) {
      page_.clear();
      for (const auto& [uid, pod] : pods_) page_.push_back(pod);
      page_version_ = version_;
      page_told_ = log_.size();
      page_served_ = NowServing();
    }
    const size_t half = page_.size() / 2;
    if (!second && page_.size() > 3 && target.find("limit=") != std::string::npos) {
      follower_.OnList(200, ListJson({page_.begin(), page_.begin() + static_cast<ptrdiff_t>(half)}, page_version_, "next"));
      return;
    }
    const auto begin = page_.begin() + (second ? static_cast<ptrdiff_t>(half) : 0);
    follower_.OnList(200, ListJson({begin, page_.end()}, page_version_));
    told_ = page_told_;
    // Whom the follower has seen serving: before and in the list, or only in the list.
    std::map<std::string, bool> kept;
    for (const PodSpec& pod : page_) {
      if ((served_.contains(pod.uid) || page_served_.contains(pod.uid)) && pod.role != "none" && pod.phase != "Failed") kept[pod.uid] = true;
    }
    served_ = std::move(kept);
  }
  void TellOne() {
    if (told_ == log_.size()) {
      if (Chance(30)) {
        EXPECT_TRUE(follower_.OnWatchLine(BookmarkJson(version_)));
      }
      return;
    }
    const Event& event = log_[told_++];
    // Through the splitter, cut at a random place.
    LineSplitter lines(1 << 20);
    const std::string line = EventJson(event.type, event.pod) + "\n";
    const size_t cut = random_() % line.size();
    lines.Feed(line.substr(0, cut));
    EXPECT_FALSE(lines.Next());
    lines.Feed(line.substr(cut));
    EXPECT_TRUE(follower_.OnWatchLine(*lines.Next()));
    if (event.type == "DELETED") served_.erase(event.pod.uid);
    else if (event.pod.role == "none" || event.pod.phase == "Failed") served_.erase(event.pod.uid);
    else if (Serves(event.pod)) served_[event.pod.uid] = true;
  }
  static bool Serves(const PodSpec& pod) {
    return pod.ready && !pod.deleting && pod.phase == "Running" && !pod.ip.empty() && pod.role != "none";
  }
  std::map<std::string, bool> NowServing() const {
    std::map<std::string, bool> serving;
    for (const auto& [uid, pod] : pods_) {
      if (Serves(pod)) serving[uid] = true;
    }
    return serving;
  }

  void CheckEqual() {
    ASSERT_EQ(told_, log_.size());
    std::map<std::string, bool> expected;  // "uid role url" -> draining
    for (const auto& [uid, pod] : pods_) {
      if (!served_.contains(uid) || pod.ip.empty()) continue;
      Strings ports = {"30000"};
      if (!pod.annotations.empty()) {
        const std::string text(pod.annotations.at("baton/http-port").as_string());
        ports = text == "31000" ? Strings{"31000"} : Strings{"31000", "31001"};
      }
      for (const auto& port : ports) expected[fmt::format("{} {} http://{}:{}", uid, pod.role, pod.ip, port)] = !Serves(pod);
    }
    std::map<std::string, bool> found;
    for (const WantedWorker& w : follower_.Wanted()) found[w.key] = w.draining;
    EXPECT_EQ(found, expected);
  }

  std::mt19937_64 random_;
  PodFollower follower_;
  std::map<std::string, PodSpec> pods_;
  std::vector<Event> log_;
  int64_t version_ = 1;
  int next_uid_ = 0;
  // What the follower has been told.
  bool watching_ = false;
  size_t told_ = 0;  // events of the log
  std::map<std::string, bool> served_;
  std::vector<PodSpec> page_;
  int64_t page_version_ = 0;
  size_t page_told_ = 0;
  std::map<std::string, bool> page_served_;
};

TEST(PodFollower, KnowsTheClusterAfterAnyHistory) {
  for (uint64_t seed = 1; seed <= 400; ++seed) {
    World world(seed);
    world.Run(static_cast<int>(20 + seed % 150));
    if (HasFailure()) FAIL() << "seed " << seed;
  }
}

// What the registry would hold after the changes, step by step, is what is wanted.
TEST(WantedWorkers, ChangesLeadFromAnySetToAnyOther) {
  std::mt19937_64 random(7);
  std::map<std::string, WantedWorker> have;
  for (int step = 0; step < 3000; ++step) {
    std::vector<WantedWorker> wanted;
    for (int i = 0; i < 8; ++i) {
      if (random() % 3 == 0) continue;
      WantedWorker w;
      w.key = fmt::format("k{}-{}", i, random() % 2);
      w.config.url = fmt::format("http://h{}:1", i);
      w.config.bootstrap_port = static_cast<uint16_t>(1 + random() % 2);
      w.draining = random() % 4 == 0;
      wanted.push_back(w);
    }
    const WorkerChanges changes = Compare(have, wanted);
    for (const auto& key : changes.remove) EXPECT_EQ(have.erase(key), 1u);
    std::set<std::string> urls;
    for (const auto& [key, w] : have) urls.insert(w.config.url);
    for (const auto& w : changes.add) {
      EXPECT_FALSE(w.draining);
      EXPECT_TRUE(urls.insert(w.config.url).second) << "added before the old one was removed";
      EXPECT_TRUE(have.emplace(w.key, w).second);
    }
    for (const auto& w : changes.update) have.at(w.key) = w;
    std::map<std::string, WantedWorker> expected;
    for (const auto& w : wanted) {
      if (have.contains(w.key) || !w.draining) expected[w.key] = w;
    }
    ASSERT_EQ(have.size(), expected.size());
    for (const auto& [key, w] : expected) {
      ASSERT_EQ(have.at(key).config.bootstrap_port, w.config.bootstrap_port);
      ASSERT_EQ(have.at(key).draining, w.draining);
    }
    EXPECT_TRUE(Compare(have, wanted).empty());
  }
}

TEST(LineSplitter, LinesDoNotDependOnTheCuts) {
  const std::string text = "one\n\r\ntwo\r\n\nthree\nunfinished";
  for (size_t piece = 1; piece <= text.size(); ++piece) {
    LineSplitter lines(20);
    Strings found;
    for (size_t at = 0; at < text.size(); at += piece) {
      EXPECT_TRUE(lines.Feed(text.substr(at, piece)));
      while (const auto line = lines.Next()) found.emplace_back(*line);
    }
    EXPECT_EQ(found, (Strings{"one", "two", "three"})) << piece;
    EXPECT_FALSE(lines.failed());
  }
  LineSplitter lines(8);
  lines.Feed("ok\n123456789");
  EXPECT_EQ(lines.Next(), "ok");
  EXPECT_FALSE(lines.Next());
  EXPECT_TRUE(lines.failed());
  EXPECT_FALSE(lines.Feed("\n"));
}

}  // namespace
}  // namespace baton::router
