// Which provider: what libfabric offers here, what was asked for, and a clear word when they differ.
#pragma once

#include <string>
#include <vector>

#include "transfer/libfabric/handles.h"
#include "transfer/transfer.h"

namespace baton::transfer {

// What peers must share: they do not understand each other otherwise.
inline constexpr const char* kEfaFamily = "efa";
inline constexpr const char* kTcpFamily = "tcp";               // rxm over tcp
inline constexpr const char* kNativeTcpFamily = "tcp-native";  // reliable datagrams of tcp itself

struct ProviderChoice {
  Info info;            // the one to open
  std::string name;     // its provider: "tcp;ofi_rxm", "efa"
  std::string family;
  std::string rail;     // as it was asked for, or its domain
  bool delivery_complete = false;  // it can report completion when the bytes are at the target
  bool hmem = false;               // it registers memory of GPUs (asked for, and granted)
};

// The API version that this build and the loaded library both know.
uint32_t ApiVersion();
// "1.17.0 (API 1.17)" of the loaded library.
std::string LibraryVersion();

// By options.provider, fabric, host and require_rdma. For efa every domain, the one to take alone first.
Result<std::vector<ProviderChoice>> ChooseProvider(const Options& options);
// What to open for each of options.rails, or, for efa without any, for every domain; `chosen` is what
// ChooseProvider gave. Names that fit nothing are left out with a warning; an error when none fits, or
// two are the same.
Result<std::vector<ProviderChoice>> ChooseRails(const Options& options, std::vector<ProviderChoice> chosen);

// By the name of its domain, or of the device behind it.
bool IsNamed(const ProviderChoice& domain, const std::string& name);

// Source address for tcp: `host` itself, or for 0.0.0.0 the address of the default route, else of
// the first interface that is up and not loopback, else 127.0.0.1.
std::string PickHost(const std::string& host);

}  // namespace baton::transfer
