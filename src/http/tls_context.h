// What TLS connections of one client or one server share: certificates, trusted authorities and,
// on the client's side, sessions to be resumed. Read from files and read again when these change.
// Thread-safe.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "common/clock.h"
#include "http/client.h"
#include "http/tls.h"
#include "http/tls_session.h"

namespace baton::http {

using TlsContextPtr = std::shared_ptr<SSL_CTX>;

// Which versions of some files were read last.
class FileVersions {
 public:
  explicit FileVersions(std::vector<std::string> paths) : paths_(std::move(paths)) {}
  // Notes what is there now; true when it differs from last time.
  bool Update();

 private:
  struct Version {
    uint64_t inode = 0;
    int64_t bytes = -1, seconds = 0, nanoseconds = 0;
    friend bool operator==(const Version&, const Version&) = default;
  };
  std::vector<std::string> paths_;
  std::vector<Version> seen_;
};

class TlsServerContext {
 public:
  static Result<std::unique_ptr<TlsServerContext>> Load(const ServerTlsOptions& options);

  std::unique_ptr<TlsSession> Accept(int fd);
  // When files have changed: new connections get what is in them, or, when that is unusable, what
  // there was (one error in the log per change).
  void ReloadIfChanged();

 private:
  TlsServerContext(ServerTlsOptions options, FileVersions versions, TlsContextPtr context)
      : options_(std::move(options)), versions_(std::move(versions)), context_(std::move(context)) {}

  const ServerTlsOptions options_;
  std::mutex mutex_;
  FileVersions versions_;
  TlsContextPtr context_;
};

class TlsClientContext : public std::enable_shared_from_this<TlsClientContext> {
 public:
  explicit TlsClientContext(TlsOptions options);

  // A session towards `origin` that has not begun yet. kInvalidArgument when the files cannot be
  // used; once they could be, later bad versions of them are only logged.
  Result<std::unique_ptr<TlsSession>> Connect(const Origin& origin, int fd);

 private:
  using Ticket = std::shared_ptr<SSL_SESSION>;
  Status LoadLocked();
  void KeepTicket(const Origin& origin, const SSL_CTX* context, SSL_SESSION* ticket);
  Ticket TakeTicketLocked(const Origin& origin);

  const TlsOptions options_;
  std::mutex mutex_;
  FileVersions versions_;
  TimePoint next_look_{};
  TlsContextPtr context_;
  std::map<Origin, std::vector<Ticket>> tickets_;
};

}  // namespace baton::http
