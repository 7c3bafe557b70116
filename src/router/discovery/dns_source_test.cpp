// DNS discovery against a name server of the test's own on a UDP port.
#include "router/discovery/dns_source.h"

#include <map>
#include <mutex>
#include <thread>

#include <arpa/inet.h>
#include <arpa/nameser.h>

#include <gtest/gtest.h>

#include "router/test_fleet.h"

namespace baton::router {
namespace {

using namespace test;  // NOLINT

// Answers from a table; what is not there does not exist. Other modes play a server in trouble.
class FakeNameServer {
 public:
  enum class Mode { kServe, kFail, kSilent, kGarbage };
  FakeNameServer() : fd_(::socket(AF_INET, SOCK_DGRAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    EXPECT_EQ(::bind(fd_, reinterpret_cast<sockaddr*>(&address), size), 0);
    ::getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { Serve(); });
  }
  ~FakeNameServer() {
    stop_ = true;
    ::shutdown(fd_, SHUT_RDWR);
    thread_.join();
    ::close(fd_);
  }
  std::string address() const { return fmt::format("127.0.0.1:{}", port_); }
  void SetMode(Mode mode) { mode_ = mode; }
  // A name with addresses; an empty list is a name without any.
  void SetHost(const std::string& name, std::vector<std::string> v4, std::vector<std::string> v6 = {}) {
    std::lock_guard lock(mutex_);
    hosts_[name] = {std::move(v4), std::move(v6)};
  }
  void SetServices(const std::string& name, std::vector<std::pair<std::string, uint16_t>> targets, bool glue) {
    std::lock_guard lock(mutex_);
    services_[name] = std::move(targets);
    glue_ = glue;
  }
  void Remove(const std::string& name) {
    std::lock_guard lock(mutex_);
    hosts_.erase(name);
    services_.erase(name);
  }
  int queries() const { return queries_; }

 private:
  struct Host {
    std::vector<std::string> v4, v6;
  };
  using Bytes = std::vector<unsigned char>;

  static void Put16(Bytes& out, unsigned value) {
    out.push_back(static_cast<unsigned char>(value >> 8));
    out.push_back(static_cast<unsigned char>(value));
  }
  static void PutName(Bytes& out, std::string_view name) {
    while (!name.empty()) {
      const size_t dot = std::min(name.find('.'), name.size());
      out.push_back(static_cast<unsigned char>(dot));
      out.insert(out.end(), name.begin(), name.begin() + static_cast<ptrdiff_t>(dot));
      name.remove_prefix(std::min(dot + 1, name.size()));
    }
    out.push_back(0);
  }
  static void PutRecord(Bytes& out, std::string_view name, unsigned type, const Bytes& data) {
    PutName(out, name);
    Put16(out, type);
    Put16(out, ns_c_in);
    Put16(out, 0);
    Put16(out, 5);
    Put16(out, static_cast<unsigned>(data.size()));
    out.insert(out.end(), data.begin(), data.end());
  }
  static int PutAddresses(Bytes& out, const std::string& name, const Host& host, unsigned type) {
    int count = 0;
    for (const std::string& text : type == ns_t_a ? host.v4 : host.v6) {
      Bytes data(type == ns_t_a ? 4 : 16);
      EXPECT_EQ(::inet_pton(type == ns_t_a ? AF_INET : AF_INET6, text.c_str(), data.data()), 1);
      PutRecord(out, name, type, data);
      ++count;
    }
    return count;
  }

  Bytes Answer(const unsigned char* query, size_t size) {
    std::string name;
    size_t at = 12;
    while (at < size && query[at] != 0) {
      if (!name.empty()) name += '.';
      name.append(reinterpret_cast<const char*>(query) + at + 1, query[at]);
      at += 1 + query[at];
    }
    const size_t question_end = at + 5;
    if (question_end > size) return {};
    const unsigned type = static_cast<unsigned>(query[at + 1] << 8 | query[at + 2]);
    std::lock_guard lock(mutex_);
    Bytes body;
    int answers = 0, extra = 0;
    if (hosts_.contains(name)) answers = PutAddresses(body, name, hosts_[name], type);
    if (services_.contains(name) && type == ns_t_srv) {
      for (const auto& [host, port] : services_[name]) {
        Bytes data;
        for (const unsigned value : {0u, 0u, static_cast<unsigned>(port)}) Put16(data, value);
        PutName(data, host);
        PutRecord(body, name, ns_t_srv, data);
        ++answers;
      }
      for (const auto& [host, port] : services_[name]) {
        if (glue_) extra += PutAddresses(body, host, hosts_[host], ns_t_a);
      }
    }
    const bool known = hosts_.contains(name) || services_.contains(name);
    const unsigned code = mode_ == Mode::kFail ? ns_r_servfail : known ? ns_r_noerror : ns_r_nxdomain;
    if (mode_ == Mode::kFail) answers = extra = 0;
    Bytes out(query, query + 2);
    Put16(out, 0x8180 | code);
    Put16(out, 1);
    Put16(out, static_cast<unsigned>(answers));
    Put16(out, 0);
    Put16(out, static_cast<unsigned>(extra));
    out.insert(out.end(), query + 12, query + question_end);
    if (mode_ != Mode::kFail) out.insert(out.end(), body.begin(), body.end());
    if (mode_ == Mode::kGarbage) out.resize(14);
    return out;
  }
  void Serve() {
    unsigned char query[1500];
    while (!stop_) {
      sockaddr_in from{};
      socklen_t from_size = sizeof from;
      pollfd wait{fd_, POLLIN, 0};
      if (::poll(&wait, 1, 50) != 1) continue;
      const ssize_t n = ::recvfrom(fd_, query, sizeof query, 0, reinterpret_cast<sockaddr*>(&from), &from_size);
      if (n < 17) continue;
      ++queries_;
      if (mode_ == Mode::kSilent) continue;
      const Bytes answer = Answer(query, static_cast<size_t>(n));
      ::sendto(fd_, answer.data(), answer.size(), 0, reinterpret_cast<sockaddr*>(&from), from_size);
    }
  }

  int fd_;
  uint16_t port_ = 0;
  std::mutex mutex_;
  std::map<std::string, Host> hosts_;
  std::map<std::string, std::vector<std::pair<std::string, uint16_t>>> services_;
  bool glue_ = false;
  std::atomic<Mode> mode_{Mode::kServe};
  std::atomic<bool> stop_{false};
  std::atomic<int> queries_{0};
  std::thread thread_;
};

using Targets = std::vector<DnsTarget>;

TEST(DnsLookUp, AddressesAndServices) {
  FakeNameServer server;
  server.SetHost("p.llm.test", {"10.0.0.2", "10.0.0.1", "10.0.0.2"}, {"fd00::1"});
  auto found = LookUp({"p.llm.test", 30'000}, server.address());
  ASSERT_TRUE(found.ok()) << found.status().ToString();
  EXPECT_EQ(*found, (Targets{{"10.0.0.1", 30'000}, {"10.0.0.2", 30'000}}));
  server.SetHost("six.llm.test", {}, {"fd00::1"});
  EXPECT_EQ(*LookUp({"six.llm.test", 1}, server.address()), (Targets{{"fd00::1", 1}}));
  server.SetHost("none.llm.test", {});
  EXPECT_EQ(LookUp({"none.llm.test", 1}, server.address()).status().code(), Code::kNotFound);
  EXPECT_EQ(LookUp({"nobody.llm.test", 1}, server.address()).status().code(), Code::kNotFound);
  // A hundred records do not fit the classic 512 bytes.
  std::vector<std::string> many;
  for (int i = 0; i < 40; ++i) many.push_back(fmt::format("10.1.0.{}", 100 + i));
  server.SetHost("many.llm.test", many);
  EXPECT_EQ(LookUp({"many.llm.test", 1}, server.address())->size(), 40u);

  server.SetHost("w0.llm.test", {"10.0.0.7"});
  server.SetHost("w1.llm.test", {"10.0.0.8"});
  for (const bool glue : {true, false}) {
    server.SetServices("_http._tcp.llm.test", {{"w1.llm.test", 31'001}, {"w0.llm.test", 31'000}, {"gone.llm.test", 1}}, glue);
    found = LookUp({"_http._tcp.llm.test", 0}, server.address());
    ASSERT_TRUE(found.ok()) << found.status().ToString();
    EXPECT_EQ(*found, (Targets{{"10.0.0.7", 31'000}, {"10.0.0.8", 31'001}}));
  }
}

TEST(DnsLookUp, TroubleIsNotAbsence) {
  FakeNameServer server;
  server.SetHost("p.llm.test", {"10.0.0.1"});
  server.SetMode(FakeNameServer::Mode::kFail);
  EXPECT_EQ(LookUp({"p.llm.test", 1}, server.address()).status().code(), Code::kUnavailable);
  server.SetMode(FakeNameServer::Mode::kGarbage);
  EXPECT_NE(LookUp({"p.llm.test", 1}, server.address()).status().code(), Code::kNotFound);
  server.SetMode(FakeNameServer::Mode::kSilent);
  EXPECT_EQ(LookUp({"p.llm.test", 1}, server.address()).status().code(), Code::kUnavailable);
}

TEST(DnsView, KeepsAndForgets) {
  DnsView view;
  const Result<Targets> none(Error(Code::kNotFound, "none")), trouble(Error(Code::kUnavailable, "trouble"));
  view.OnAnswer(trouble);
  EXPECT_FALSE(view.told());
  view.OnAnswer(Targets{{"10.0.0.1", 1}, {"10.0.0.2", 1}});
  EXPECT_TRUE(view.told());
  for (int i = 0; i < 10; ++i) view.OnAnswer(trouble);
  EXPECT_EQ(view.targets().size(), 2u);
  view.OnAnswer(Targets{{"10.0.0.2", 1}});
  EXPECT_EQ(view.targets().size(), 1u);
  for (int i = 1; i < DnsView::kGoneAfter; ++i) {
    view.OnAnswer(none);
    EXPECT_EQ(view.targets().size(), 1u);
  }
  view.OnAnswer(trouble);  // begins the count anew
  for (int i = 1; i < DnsView::kGoneAfter; ++i) view.OnAnswer(none);
  EXPECT_EQ(view.targets().size(), 1u);
  view.OnAnswer(none);
  EXPECT_TRUE(view.targets().empty());
}

TEST(DnsView, NamesAreChecked) {
  EXPECT_EQ(ParseDnsName("p.llm.svc:30000")->port, 30'000);
  EXPECT_EQ(ParseDnsName("_http._tcp.p.llm.svc")->port, 0);
  for (const char* bad : {"", "p", "p:0", "p:x", "p:70000", ":1", "http://p:1", "_http._tcp.p:1", "a b:1"}) {
    EXPECT_EQ(ParseDnsName(bad).status().code(), Code::kInvalidArgument) << bad;
  }
}

TEST(DnsDiscovery, WorkersFollowTheName) {
  FakeNameServer server;
  Loop loop(2);
  FakeWorker prefill(loop), decode(loop);
  server.SetServices("_http._tcp.p.test", {{"here.test", prefill.port()}}, false);
  server.SetHost("here.test", {"127.0.0.1"});
  server.SetHost("d.test", {"127.0.0.1"});
  Fleet fleet(0, 0, [&](RouterOptions& o) {
    o.discovery.dns.prefill = {{"_http._tcp.p.test", 0}};
    o.discovery.dns.decode = {{"d.test", decode.port()}};
    o.discovery.dns.interval = 100ms;
    o.discovery.dns.resolver = server.address();
  }, false);
  ASSERT_TRUE(fleet.AllHealthy(2));
  EXPECT_TRUE(Eventually([&] { return fleet.Get("/readiness").status == 200; }));
  EXPECT_EQ(fleet.Post("/generate", R"({"text":"a"})").status, 200);
  EXPECT_EQ(fleet.Metric(R"(smg_discovery_workers_discovered{source="dns"})"), 2);
  server.SetMode(FakeNameServer::Mode::kFail);
  const int before = server.queries();
  EXPECT_TRUE(Eventually([&] { return server.queries() > before + 20; }));
  EXPECT_EQ(fleet.Metric(R"(smg_discovery_workers_discovered{source="dns"})"), 2) << "trouble takes nobody away";
  server.SetMode(FakeNameServer::Mode::kServe);
  server.Remove("d.test");
  EXPECT_TRUE(Eventually([&] { return fleet.Metric(R"(smg_discovery_workers_discovered{source="dns"})") == 1; }));
  EXPECT_EQ(fleet.Metric(R"(smg_discovery_deregistrations_total{source="dns"})"), 1);
}

// The answer of a look-up that takes long is dropped when nobody waits any more.
TEST(DnsDiscovery, StopsWhileALookUpIsUnderWay) {
  auto entered = std::make_shared<std::atomic<bool>>(false), release = std::make_shared<std::atomic<bool>>(false);
  auto left = std::make_shared<std::atomic<bool>>(false);
  {
    Loop loop(1);
    RouterOptions options;
    RouterMetrics metrics(false);
    const auto registry = std::make_shared<Registry>(options, metrics);
    DnsSource source{{"x.test", 1}, Role::kRegular, 1s, std::make_shared<OwnedWorkers>("dns", registry, metrics, [](const WorkerPtr&) {}), {}};
    Background running(loop.executor(), "test", [source, entered, release, left] {
      return FollowDns(source, [=](const DnsName&) -> Result<Targets> {
        *entered = true;
        while (!*release) std::this_thread::sleep_for(1ms);
        *left = true;
        return Targets{{"10.0.0.1", 1}};
      });
    });
    EXPECT_TRUE(Eventually([&] { return entered->load(); }));
    running.Stop();
  }
  *release = true;
  EXPECT_TRUE(Eventually([&] { return left->load(); }));
}

}  // namespace
}  // namespace baton::router
