// Answers of name servers: every address that is read is one that can be printed and read again.
#include <cstdint>
#include <cstdlib>

#include <boost/asio/ip/address.hpp>

#include "router/discovery/dns_lookup.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto answer = baton::router::ReadDnsAnswer({data, size});
  if (!answer.ok()) return 0;
  const auto check = [](const std::string& text, bool v6) {
    boost::system::error_code ec;
    if (boost::asio::ip::make_address(text, ec).is_v6() != v6 || ec) std::abort();
  };
  for (const auto& a : answer->v4) check(a, false);
  for (const auto& a : answer->v6) check(a, true);
  for (const auto& [host, a] : answer->extra_v4) check(a, false);
  for (const auto& [host, a] : answer->extra_v6) check(a, true);
  for (const auto& service : answer->services) {
    if (service.port == 0 || service.host.empty()) std::abort();
  }
  return 0;
}
