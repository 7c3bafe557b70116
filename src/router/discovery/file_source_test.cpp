#include "router/discovery/file_source.h"

#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

#include "router/discovery/workers_file.h"
#include "router/test_fleet.h"

namespace baton::router {
namespace {

using namespace test;  // NOLINT
namespace fs = std::filesystem;

TEST(WorkersFile, TakesTheFieldsOfPostWorkers) {
  const auto read = ReadWorkersFile("w.json", R"({"workers": [
    {"url": "http://a:1/", "worker_type": "prefill", "bootstrap_port": 8998, "api_key": "k", "labels": {"zone": "1"}},
    {"url": "b:2", "worker_type": "decode", "priority": 7, "cost": 2.5, "model_id": "m", "disable_health_check": true}]})", true);
  ASSERT_TRUE(read.ok()) << read.status().ToString();
  ASSERT_EQ(read->size(), 2u);
  EXPECT_EQ((*read)[0].config.url, "http://a:1");
  EXPECT_EQ((*read)[0].config.bootstrap_port, 8998);
  EXPECT_EQ((*read)[0].config.labels.at("zone"), "1");
  EXPECT_EQ((*read)[1].config.role, Role::kDecode);
  EXPECT_TRUE((*read)[1].config.disable_health_check);
  EXPECT_EQ(ReadWorkersFile("w.json", "[]", true)->size(), 0u);
}

TEST(WorkersFile, SaysWhereItIsWrong) {
  const struct {
    const char* text;
    const char* message;
  } cases[] = {
      {"[\n {\"url\": \"http://a:1\",}\n]", "w.json line 2, column 23: invalid JSON"},
      {"", "line 1, column 1"},
      {"{}", "expected [WORKER, ...]"},
      {"{\"worker\": []}", "unknown field \"worker\""},
      {"[3]", "worker 1 (counted from 1): must be an object, not an integer"},
      {R"([{"url":"a:1","worker_type":"decode"},{"worker_type":"decode"}])", "worker 2 (counted from 1): url is missing"},
      {R"([{"url":"a:1","worker_type":"decode","boot":1}])", "unknown field \"boot\"; known are url, worker_type"},
      {R"([{"url":"a:1","worker_type":"regular"}])", "worker_type must be prefill or decode"},
      {R"([{"url":"a:1"}])", "worker_type must be prefill or decode"},
      {R"([{"url":"ftp://a:1","worker_type":"decode"}])", "is not http or https"},
      {R"([{"url":"a:1","worker_type":"prefill","bootstrap_port":0}])", "bootstrap_port 0 is not in [1, 65535]"},
      {R"([{"url":"a:1","worker_type":"decode"},{"url":"http://a:1/","worker_type":"decode"}])", "workers 1 and 2 (counted from 1) are both decode http://a:1"},
  };
  for (const auto& c : cases) {
    const auto read = ReadWorkersFile("w.json", c.text, true);
    ASSERT_FALSE(read.ok()) << c.text;
    EXPECT_NE(read.status().message().find(c.message), std::string::npos) << read.status().message();
  }
}

class FileTest : public ::testing::Test {
 protected:
  FileTest() : folder_(fs::temp_directory_path() / fmt::format("baton-file-{}-{}", ::getpid(), ::testing::UnitTest::GetInstance()->current_test_info()->name())) {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
    for (int i = 0; i < 3; ++i) workers_.push_back(std::make_unique<FakeWorker>(loop_));
  }
  ~FileTest() override { fs::remove_all(folder_); }

  std::string Text(std::vector<size_t> workers) {
    std::string text;
    for (size_t i : workers) text += fmt::format("{}{{\"url\":\"{}\",\"worker_type\":\"decode\"}}", text.empty() ? "[" : ",", workers_[i]->url());
    return text.empty() ? "[]" : text + "]";
  }
  void Write(const fs::path& path, std::string_view text) { std::ofstream(path, std::ios::trunc) << text; }
  void Start(const fs::path& path, const std::function<void(RouterOptions&)>& change = {}) {
    fleet_ = std::make_unique<Fleet>(1, 0, [&](RouterOptions& o) {
      o.discovery.workers_file = path;
      if (change) change(o);
    }, false);
  }
  bool Become(size_t decodes) {
    const auto count = [&] { return static_cast<size_t>(json::Parse(fleet_->Get("/workers").body)->at("stats").at("decode_count").as_int64()); };
    const bool same = Eventually([&] { return count() == decodes; });
    EXPECT_EQ(count(), decodes);
    return same;
  }

  const fs::path folder_;
  Loop loop_{2};
  std::vector<std::unique_ptr<FakeWorker>> workers_;
  std::unique_ptr<Fleet> fleet_;
};

TEST_F(FileTest, FollowsWritesRenamesAndConfigMaps) {
  // As Kubernetes mounts a ConfigMap: the file is a link into ..data, which is a link to a folder.
  fs::create_directory(folder_ / "..v1");
  Write(folder_ / "..v1" / "workers.json", Text({0}));
  fs::create_directory_symlink("..v1", folder_ / "..data");
  fs::create_symlink("..data/workers.json", folder_ / "workers.json");
  Start(folder_ / "workers.json");
  EXPECT_TRUE(Become(1));
  fs::create_directory(folder_ / "..v2");
  Write(folder_ / "..v2" / "workers.json", Text({0, 1}));
  fs::create_directory_symlink("..v2", folder_ / "..data_tmp");
  fs::rename(folder_ / "..data_tmp", folder_ / "..data");
  fs::remove_all(folder_ / "..v1");
  EXPECT_TRUE(Become(2));
  Write(folder_ / "..v2" / "workers.json", Text({0, 1, 2}));  // in place, behind the links
  EXPECT_TRUE(Become(3));
  Write(folder_ / "new.json", Text({2}));
  fs::rename(folder_ / "new.json", folder_ / "workers.json");
  EXPECT_TRUE(Become(1));
  ASSERT_TRUE(fleet_->AllHealthy(2));
  EXPECT_EQ(fleet_->Post("/generate", R"({"text":"a"})").status, 200);
  EXPECT_EQ(workers_[2]->requests(), 1u);
}

TEST_F(FileTest, ABrokenFileChangesNothing) {
  const fs::path path = folder_ / "workers.json";
  Write(path, Text({0, 1}));
  Start(path);
  EXPECT_TRUE(Become(2));
  Write(path, "[{\"url\":");
  std::this_thread::sleep_for(300ms);
  EXPECT_TRUE(Become(2));
  fs::remove(path);
  std::this_thread::sleep_for(300ms);
  EXPECT_TRUE(Become(2));
  Write(path, Text({1, 2}));
  EXPECT_TRUE(Eventually([&] { return fleet_->Metric(R"(smg_discovery_deregistrations_total{source="file"})") == 1; }));
  EXPECT_TRUE(Become(2));
  EXPECT_EQ(fleet_->Metric(R"(smg_discovery_workers_discovered{source="file"})"), 2);
}

TEST_F(FileTest, ABrokenFileAtTheStartIsRefused) {
  const fs::path path = folder_ / "workers.json";
  RouterOptions options;
  options.host = "127.0.0.1";
  options.port = 0;
  options.prometheus_port = -1;
  options.discovery.workers_file = path;
  auto missing = Router::Start(loop_.executor(), options);
  EXPECT_NE(missing.status().message().find("cannot read " + path.string()), std::string::npos) << missing.status().message();
  Write(path, "[");
  EXPECT_EQ(Router::Start(loop_.executor(), options).status().code(), Code::kInvalidArgument);
}

// Settings change in place, with the state of the worker; whoever is listed elsewhere stays.
TEST_F(FileTest, WorkersThatStayKeepTheirIdentity) {
  const fs::path path = folder_ / "workers.json";
  Write(path, fmt::format(R"([{{"url":"{}","worker_type":"prefill","bootstrap_port":1}}])", workers_[0]->url()));
  Start(path, [&](RouterOptions& o) { o.decode = {workers_[1]->url()}; });
  const auto find = [&](const char* field) {
    const auto list = json::Parse(fleet_->Get("/workers").body);
    for (const json::value& w : list->at("workers").as_array()) {
      if (w.at("url").as_string() == workers_[0]->url()) return json::serialize(w.at(field));
    }
    return std::string("(none)");
  };
  const std::string id = find("id");
  EXPECT_EQ(find("bootstrap_port"), "1");
  Write(path, fmt::format(R"([{{"url":"{}","worker_type":"prefill","bootstrap_port":2}}])", workers_[0]->url()));
  EXPECT_TRUE(Eventually([&] { return find("bootstrap_port") == "2"; }));
  EXPECT_EQ(find("id"), id);
  // By SIGHUP the listed workers change, and nobody else.
  RouterOptions fresh;
  fresh.prefill = {{fleet_->prefill[0]->url(), 9000}};
  fresh.decode = {workers_[2]->url()};
  ASSERT_TRUE(fleet_->router->ReplaceListed(fresh).ok());
  EXPECT_EQ(find("id"), id);
  EXPECT_EQ(json::Parse(fleet_->Get("/workers").body)->at("total").as_int64(), 3);
  fresh.decode.push_back("nonsense://x");
  EXPECT_FALSE(fleet_->router->ReplaceListed(fresh).ok());
  EXPECT_EQ(json::Parse(fleet_->Get("/workers").body)->at("total").as_int64(), 3);
  // Removed by hand: away until the file has dropped it once.
  fleet_->Fetch("DELETE", "/workers/" + id.substr(1, id.size() - 2));
  ASSERT_TRUE(fleet_->router->ReplaceListed(fresh).code() == Code::kInvalidArgument);
  EXPECT_EQ(find("id"), "(none)");
  Write(path, "[]");
  EXPECT_TRUE(Eventually([&] { return fleet_->Metric(R"(smg_discovery_workers_discovered{source="file"})") == 0; }));
  Write(path, fmt::format(R"([{{"url":"{}","worker_type":"prefill"}}])", workers_[0]->url()));
  EXPECT_TRUE(Eventually([&] { return find("id") != "(none)"; }));
}

}  // namespace
}  // namespace baton::router
