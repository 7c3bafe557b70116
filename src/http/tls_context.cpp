#include "http/tls_context.h"

#include <cerrno>

#include <boost/asio/ip/address.hpp>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/log.h"

namespace baton::http {

namespace {

constexpr Duration kLookInterval = std::chrono::seconds(5);  // at a client's files
constexpr size_t kTicketsPerOrigin = 8;
constexpr size_t kMaxTicketOrigins = 1024;
constexpr unsigned char kAlpn[] = {8, 'h', 't', 't', 'p', '/', '1', '.', '1'};

Status BadFile(std::string_view what, const std::string& path) {
  const unsigned long code = ERR_peek_error();
  const bool no_pem = ERR_GET_LIB(code) == ERR_LIB_PEM && ERR_GET_REASON(code) == PEM_R_NO_START_LINE;
  const std::string reason = TakeTlsError();
  if (no_pem) return Error(Code::kInvalidArgument, "{} {}: the file holds none in PEM form", what, path);
  return Error(Code::kInvalidArgument, "{} {}: {}", what, path, reason.empty() ? "unusable" : reason);
}

// OpenSSL hides errno behind three errors of its own.
Status CheckReadable(std::string_view what, const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0 || ::access(path.c_str(), R_OK) != 0)
    return Error(Code::kInvalidArgument, "{} {}: {}", what, path, ErrnoText(errno));
  if (S_ISDIR(info.st_mode))
    return Error(Code::kInvalidArgument, "{} {}: a folder; name a file", what, path);
  return Status::Ok();
}

// Keys with a password: the given one, or none. Never asks at the terminal.
int GivePassword(char* room, int size, int, void* password) {
  const auto* text = static_cast<const std::string*>(password);
  if (!text || text->size() > static_cast<size_t>(size)) return 0;
  text->copy(room, text->size());
  return static_cast<int>(text->size());
}

int OnVerify(int good, X509_STORE_CTX* store) {
  if (good) return good;
  auto* ssl = static_cast<SSL*>(
      X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()));
  if (ssl) static_cast<TlsSession*>(SSL_get_app_data(ssl))->NoteRefusal(store);
  return good;
}

int ChooseProtocol(SSL*, const unsigned char** out, unsigned char* out_bytes,
                   const unsigned char* offered, unsigned offered_bytes, void*) {
  unsigned char* chosen = nullptr;
  if (SSL_select_next_proto(&chosen, out_bytes, kAlpn, sizeof kAlpn, offered, offered_bytes) !=
      OPENSSL_NPN_NEGOTIATED)
    return SSL_TLSEXT_ERR_ALERT_FATAL;
  *out = chosen;
  return SSL_TLSEXT_ERR_OK;
}

TlsContextPtr NewContext(const SSL_METHOD* method) {
  TlsContextPtr context(SSL_CTX_new(method), SSL_CTX_free);
  if (!context) throw std::bad_alloc();
  SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION);
  SSL_CTX_set_options(context.get(), SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  SSL_CTX_set_mode(context.get(), SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_read_ahead(context.get(), 1);
  return context;
}

void WarnOfExpiry(SSL_CTX* context, const std::string& path) {
  const X509* certificate = SSL_CTX_get0_certificate(context);
  if (!certificate) return;
  if (X509_cmp_current_time(X509_get0_notAfter(certificate)) < 0)
    log::warn("TLS certificate {} has expired: its peers will refuse it", path);
  else if (X509_cmp_current_time(X509_get0_notBefore(certificate)) > 0)
    log::warn("TLS certificate {} is not valid yet: its peers will refuse it", path);
}

Status LoadIdentity(SSL_CTX* context, const std::string& cert, const std::string& key,
                    const std::string& password) {
  if (cert.empty() != key.empty())
    return Error(Code::kInvalidArgument, "TLS certificate and key go together, only {} is given",
                 cert.empty() ? "the key " + key : "the certificate " + cert);
  if (cert.empty()) return Status::Ok();
  if (Status s = CheckReadable("TLS certificate", cert); !s.ok()) return s;
  if (Status s = CheckReadable("TLS key", key); !s.ok()) return s;
  ERR_clear_error();
  if (SSL_CTX_use_certificate_chain_file(context, cert.c_str()) != 1)
    return BadFile("TLS certificate", cert);
  SSL_CTX_set_default_passwd_cb(context, GivePassword);
  SSL_CTX_set_default_passwd_cb_userdata(context, const_cast<std::string*>(&password));
  const int used = SSL_CTX_use_PrivateKey_file(context, key.c_str(), SSL_FILETYPE_PEM);
  SSL_CTX_set_default_passwd_cb_userdata(context, nullptr);
  const unsigned long code = ERR_peek_error();
  const bool other_key = ERR_GET_LIB(code) == ERR_LIB_X509 &&
                         (ERR_GET_REASON(code) == X509_R_KEY_VALUES_MISMATCH ||
                          ERR_GET_REASON(code) == X509_R_KEY_TYPE_MISMATCH);
  if (other_key || (used == 1 && SSL_CTX_check_private_key(context) != 1)) {
    ERR_clear_error();
    return Error(Code::kInvalidArgument, "TLS key {} does not belong to the certificate {}", key, cert);
  }
  if (used != 1) return BadFile("TLS key", key);
  WarnOfExpiry(context, cert);
  return Status::Ok();
}

Status LoadAuthorities(SSL_CTX* context, const std::vector<std::string>& files) {
  ERR_clear_error();
  for (const std::string& file : files) {
    if (Status s = CheckReadable("CA certificate", file); !s.ok()) return s;
    if (SSL_CTX_load_verify_file(context, file.c_str()) != 1) return BadFile("CA certificate", file);
  }
  // A certificate in the files is trusted, whether it is a root or not.
  X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(context), X509_V_FLAG_PARTIAL_CHAIN);
  return Status::Ok();
}

Result<TlsContextPtr> LoadServer(const ServerTlsOptions& options) {
  TlsContextPtr context = NewContext(TLS_server_method());
  if (Status s = LoadIdentity(context.get(), options.cert_file, options.key_file, options.key_password); !s.ok())
    return s;
  SSL_CTX_set_session_cache_mode(context.get(), SSL_SESS_CACHE_OFF);  // tickets hold the state
  // The file holds the chain. OpenSSL would look for the rest of it at each handshake.
  SSL_CTX_set_mode(context.get(), SSL_MODE_NO_AUTO_CHAIN);
  SSL_CTX_set_alpn_select_cb(context.get(), ChooseProtocol, nullptr);
  if (!options.client_ca_files.empty()) {
    if (Status s = LoadAuthorities(context.get(), options.client_ca_files); !s.ok()) return s;
    STACK_OF(X509_NAME)* names = sk_X509_NAME_new_null();  // told to clients, so that they can choose
    for (const std::string& file : options.client_ca_files)
      SSL_add_file_cert_subjects_to_stack(names, file.c_str());
    SSL_CTX_set_client_CA_list(context.get(), names);
    ERR_clear_error();
    constexpr unsigned char kScope[] = "baton";
    SSL_CTX_set_session_id_context(context.get(), kScope, sizeof kScope - 1);
    SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, OnVerify);
  }
  return context;
}

int OnTicket(SSL* ssl, SSL_SESSION* ticket) {
  // 1: the callee owns it now.
  return static_cast<TlsSession*>(SSL_get_app_data(ssl))->TakeTicket(ticket) ? 1 : 0;
}

Result<TlsContextPtr> LoadClient(const TlsOptions& options) {
  TlsContextPtr context = NewContext(TLS_client_method());
  if (Status s = LoadIdentity(context.get(), options.cert_file, options.key_file, ""); !s.ok()) return s;
  if (options.ca_files.empty()) {
    SSL_CTX_set_default_verify_paths(context.get());
  } else if (Status s = LoadAuthorities(context.get(), options.ca_files); !s.ok()) {
    return s;
  }
  SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, OnVerify);
  SSL_CTX_set_alpn_protos(context.get(), kAlpn, sizeof kAlpn);
  SSL_CTX_set_session_cache_mode(context.get(), SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
  SSL_CTX_sess_set_new_cb(context.get(), OnTicket);
  return context;
}

std::vector<std::string> FilesOf(const std::string& cert, const std::string& key,
                                 const std::vector<std::string>& authorities) {
  std::vector<std::string> files = authorities;
  if (!cert.empty()) files.push_back(cert);
  if (!key.empty()) files.push_back(key);
  return files;
}

// Verification and SNI (names only, RFC 6066 section 3) for `host`.
bool ExpectHost(SSL* ssl, const std::string& host) {
  X509_VERIFY_PARAM* param = SSL_get0_param(ssl);
  boost::system::error_code not_address;
  const std::string bare = host.substr(0, host.find('%'));  // without an IPv6 zone
  const auto address = boost::asio::ip::make_address(bare, not_address);
  if (!not_address) return X509_VERIFY_PARAM_set1_ip_asc(param, address.to_string().c_str()) == 1;
  X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
  return X509_VERIFY_PARAM_set1_host(param, host.c_str(), host.size()) == 1 &&
         SSL_set_tlsext_host_name(ssl, host.c_str()) == 1;
}

}  // namespace

bool FileVersions::Update() {
  std::vector<Version> now;
  now.reserve(paths_.size());
  for (const std::string& path : paths_) {
    struct stat info {};
    Version version;
    if (::stat(path.c_str(), &info) == 0)
      version = {info.st_ino, info.st_size, info.st_mtim.tv_sec, info.st_mtim.tv_nsec};
    now.push_back(version);
  }
  const bool changed = now != seen_;
  seen_ = std::move(now);
  return changed;
}

Result<std::unique_ptr<TlsServerContext>> TlsServerContext::Load(const ServerTlsOptions& options) {
  // Before reading: a change in between is seen as one.
  FileVersions versions(FilesOf(options.cert_file, options.key_file, options.client_ca_files));
  versions.Update();
  auto context = LoadServer(options);
  if (!context.ok()) return context.status();
  return std::unique_ptr<TlsServerContext>(
      new TlsServerContext(options, std::move(versions), std::move(*context)));
}

std::unique_ptr<TlsSession> TlsServerContext::Accept(int fd) {
  TlsContextPtr context;
  {
    const std::lock_guard lock(mutex_);
    context = context_;
  }
  return std::make_unique<TlsSession>(context.get(), fd, true);
}

void TlsServerContext::ReloadIfChanged() {
  const std::lock_guard lock(mutex_);
  if (!versions_.Update()) return;
  auto context = LoadServer(options_);
  if (context.ok()) {
    context_ = std::move(*context);
    log::info("TLS certificate {} read anew", options_.cert_file);
  } else {
    log::error("TLS files changed but cannot be used, the old ones stay in use: {}",
               context.status().message());
  }
}

TlsClientContext::TlsClientContext(TlsOptions options)
    : options_(std::move(options)),
      versions_(FilesOf(options_.cert_file, options_.key_file, options_.ca_files)) {}

Status TlsClientContext::LoadLocked() {
  if (Now() < next_look_) return Status::Ok();
  const bool changed = versions_.Update();
  if (context_ && !changed) {
    next_look_ = Now() + kLookInterval;
    return Status::Ok();
  }
  auto context = LoadClient(options_);
  if (context.ok()) {
    next_look_ = Now() + kLookInterval;
    context_ = std::move(*context);
    tickets_.clear();
    return Status::Ok();
  }
  if (!context_) return context.status();
  next_look_ = Now() + kLookInterval;
  log::error("TLS files changed but cannot be used, the old ones stay in use: {}",
             context.status().message());
  return Status::Ok();
}

Result<std::unique_ptr<TlsSession>> TlsClientContext::Connect(const Origin& origin, int fd) {
  TlsContextPtr context;
  Ticket ticket;
  {
    const std::lock_guard lock(mutex_);
    if (Status s = LoadLocked(); !s.ok()) return s;
    context = context_;
    ticket = TakeTicketLocked(origin);
  }
  auto session = std::make_unique<TlsSession>(context.get(), fd, false);
  const std::string& host = options_.server_name.empty() ? origin.host : options_.server_name;
  if (!ExpectHost(session->ssl(), host))
    return Error(Code::kInvalidArgument, "{}: \"{}\" cannot be the name of a TLS server",
                 origin.ToString(), host);
  if (ticket) SSL_set_session(session->ssl(), ticket.get());
  session->SetTickets([weak = weak_from_this(), origin, from = context.get()](SSL_SESSION* given) {
    if (const auto self = weak.lock()) self->KeepTicket(origin, from, given);
    else SSL_SESSION_free(given);
  });
  return session;
}

void TlsClientContext::KeepTicket(const Origin& origin, const SSL_CTX* context, SSL_SESSION* ticket) {
  const Ticket owned(ticket, SSL_SESSION_free);
  const std::lock_guard lock(mutex_);
  if (context != context_.get() || !SSL_SESSION_is_resumable(ticket)) return;
  if (tickets_.size() >= kMaxTicketOrigins) tickets_.clear();
  auto& kept = tickets_[origin];
  if (kept.size() >= kTicketsPerOrigin) kept.erase(kept.begin());
  kept.push_back(owned);
}

// TLS 1.3 tickets are used once, so that connections cannot be told to be of one client
// (RFC 8446 appendix C.4); those of 1.2 serve on.
TlsClientContext::Ticket TlsClientContext::TakeTicketLocked(const Origin& origin) {
  const auto found = tickets_.find(origin);
  if (found == tickets_.end() || found->second.empty()) return nullptr;
  const Ticket ticket = found->second.back();
  if (SSL_SESSION_get_protocol_version(ticket.get()) >= TLS1_3_VERSION) found->second.pop_back();
  return ticket;
}

Status CheckTls(const TlsOptions& options) { return LoadClient(options).status(); }

Status CheckTls(const ServerTlsOptions& options) { return LoadServer(options).status(); }

}  // namespace baton::http
