// Settings of TLS, towards servers and towards clients. Files are PEM and are read again when they
// change, so that renewed certificates (Kubernetes secrets, cert-manager) need no restart; running
// connections keep what they began with. TLS 1.2 and 1.3; no renegotiation, no compression.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "common/status.h"

namespace baton::http {

// For https:// origins. The server's chain and its name (DNS or IP) are always verified.
struct TlsOptions {
  std::vector<std::string> ca_files;  // trusted authorities; empty: the system's store
  std::string cert_file, key_file;    // shown to a server that asks for one; both or neither
  std::string server_name;            // verified and sent instead of the origin's host; empty: that
};

// For a listening port. On when cert_file is given.
struct ServerTlsOptions {
  std::string cert_file;  // the chain, own certificate first
  std::string key_file;
  std::string key_password;                  // of an encrypted key
  std::vector<std::string> client_ca_files;  // given: clients must show a certificate of theirs
  std::chrono::milliseconds handshake_timeout{10'000};
  std::chrono::milliseconds reload_interval{5'000};  // how often the files are looked at
  bool enabled() const { return !cert_file.empty(); }
};

// Whether the files can be used as they are now. kInvalidArgument names the file and the reason;
// an expired certificate is only a warning in the log.
Status CheckTls(const TlsOptions& options);
Status CheckTls(const ServerTlsOptions& options);

}  // namespace baton::http
