// What SIGHUP does to `baton router`: the workers and the log level of its config file are read anew, and
// the workers file too. Everything else needs a restart, and the log says what.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>

#include "cli/router_config.h"
#include "router/router.h"

namespace baton::cli {

// The workers of flags, as words of the command line or of the config file.
struct ListedWorkers {
  std::vector<std::string> prefill, decode, worker_urls;
};

// "URL", "URL PORT" and "URL none" come as one flat list: a bare number or "none" belongs to the
// URL before it.
Status ReadPrefillUrls(const std::vector<std::string>& words, std::vector<router::PrefillUrl>* out);

// From its making on, for as long as it lives; the router must outlive it, and `io` must not run after it.
class RouterReload {
 public:
  RouterReload(boost::asio::io_context& io, router::Router& router, ListedWorkers given, std::optional<RouterConfig> config);

 private:
  void Await();
  Status Reload();
  Status ReloadConfig();
  void TellWhatStays(const RouterConfig::Values& values) const;

  router::Router& router_;
  const ListedWorkers given_;  // at the start
  std::optional<RouterConfig> config_;
  boost::asio::signal_set signals_;
};

}  // namespace baton::cli
