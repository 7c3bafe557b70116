#include "cli/router_reload.h"

#include <algorithm>
#include <charconv>
#include <csignal>
#include <set>

#include "common/log.h"

namespace baton::cli {
namespace {

bool IsPort(const std::string& word) {
  return word == "none" || std::all_of(word.begin(), word.end(), [](char c) { return c >= '0' && c <= '9'; });
}

bool IsReloadable(std::string_view flag) {
  return flag == "prefill" || flag == "decode" || flag == "worker-urls" || flag == "log-level";
}

}  // namespace

Status ReadPrefillUrls(const std::vector<std::string>& words, std::vector<router::PrefillUrl>* out) {
  bool port_taken = true;
  for (const std::string& word : words) {
    if (!IsPort(word)) {
      out->push_back({word, std::nullopt});
      port_taken = false;
      continue;
    }
    if (port_taken) return Error(Code::kInvalidArgument, "--prefill: {} follows no URL", word);
    port_taken = true;
    if (word == "none") continue;
    uint16_t port = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), port);
    if (error != std::errc()) {
      return Error(Code::kInvalidArgument, "--prefill: bootstrap port {} is not in [1, 65535]", word);
    }
    out->back().bootstrap_port = port;
  }
  return Status::Ok();
}

RouterReload::RouterReload(boost::asio::io_context& io, router::Router& router, ListedWorkers given,
                           std::optional<RouterConfig> config)
    : router_(router), given_(std::move(given)), config_(std::move(config)), signals_(io, SIGHUP) {
  Await();
}

void RouterReload::Await() {
  signals_.async_wait([this](const boost::system::error_code& ec, int) {
    if (ec) return;
    if (const Status s = Reload(); s.ok()) log::info("SIGHUP: read anew");
    else log::error("SIGHUP: {}; its workers stay as they were", s.message());
    Await();
  });
}

Status RouterReload::Reload() {
  const Status config = config_ ? ReloadConfig() : Status::Ok();
  const Status file = router_.ReloadWorkersFile();
  return config.ok() ? file : config;
}

Status RouterReload::ReloadConfig() {
  auto values = config_->Reread();
  if (!values.ok()) return values.status();
  const auto pick = [&](const char* key, const std::vector<std::string>& given) {
    return config_->FromCommandLine(key) ? given : (*values)[key];
  };
  router::RouterOptions fresh;
  if (Status s = ReadPrefillUrls(pick("prefill", given_.prefill), &fresh.prefill); !s.ok()) return s;
  fresh.decode = pick("decode", given_.decode);
  fresh.worker_urls = pick("worker-urls", given_.worker_urls);
  if (Status s = router_.ReplaceListed(fresh); !s.ok()) return s;
  if (!config_->FromCommandLine("log-level")) {
    const auto level = values->find("log-level");
    log::SetLevel(level == values->end() ? "info" : level->second.at(0));
  }
  TellWhatStays(*values);
  config_->Accept(std::move(*values));
  return Status::Ok();
}

void RouterReload::TellWhatStays(const RouterConfig::Values& values) const {
  const RouterConfig::Values& before = config_->values();
  std::set<std::string> keys;
  for (const auto& [key, words] : values) keys.insert(key);
  for (const auto& [key, words] : before) keys.insert(key);
  for (const std::string& key : keys) {
    if (IsReloadable(key)) continue;
    const auto now = values.find(key), then = before.find(key);
    if (now != values.end() && then != before.end() && now->second == then->second) continue;
    log::warn("--config: {} has changed; it takes effect when the router starts anew", key);
  }
}

}  // namespace baton::cli
