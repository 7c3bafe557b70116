#include "http/tls_session.h"

#include <algorithm>
#include <array>
#include <cerrno>

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>

#include <fmt/format.h>

namespace baton::http {

namespace {

constexpr size_t kRecordBytes = SSL3_RT_MAX_PLAIN_LENGTH;
constexpr size_t kFlushBytes = 64 << 10;  // of records go to the kernel at once

// The buffer for records that this thread's sessions pass round.
thread_local std::string spare;

std::string NameOf(X509_NAME* name) {
  std::array<char, 256> text{};
  X509_NAME_oneline(name, text.data(), text.size());
  return text.data();
}

std::string TimeOf(const ASN1_TIME* time) {
  tm parts{};
  if (ASN1_TIME_to_tm(time, &parts) != 1) return "an unreadable date";
  return fmt::format("{:04}-{:02}-{:02}", parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday);
}

// "a.example, 10.0.0.1": what a certificate is for.
std::string HostsOf(X509* certificate) {
  std::string hosts;
  auto* names = static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr));
  for (int i = 0; names && i < sk_GENERAL_NAME_num(names) && hosts.size() < 200; ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names, i);
    std::string text;
    if (name->type == GEN_DNS) {
      text.assign(reinterpret_cast<const char*>(ASN1_STRING_get0_data(name->d.dNSName)),
                  static_cast<size_t>(ASN1_STRING_length(name->d.dNSName)));
    } else if (name->type == GEN_IPADD) {
      std::array<char, INET6_ADDRSTRLEN> address{};
      const bool v6 = ASN1_STRING_length(name->d.iPAddress) == 16;
      if (inet_ntop(v6 ? AF_INET6 : AF_INET, ASN1_STRING_get0_data(name->d.iPAddress),
                    address.data(), address.size()))
        text = address.data();
    }
    if (!text.empty()) hosts += (hosts.empty() ? "" : ", ") + text;
  }
  GENERAL_NAMES_free(names);
  return hosts.empty() ? "no host" : hosts;
}

std::string DescribeRefusal(X509_STORE_CTX* store) {
  const int error = X509_STORE_CTX_get_error(store);
  X509* certificate = X509_STORE_CTX_get_current_cert(store);
  const std::string whose =
      !certificate || X509_STORE_CTX_get_error_depth(store) == 0
          ? "its certificate"
          : fmt::format("the certificate {} in its chain", NameOf(X509_get_subject_name(certificate)));
  switch (error) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
      return fmt::format("{} expired on {}", whose, TimeOf(X509_get0_notAfter(certificate)));
    case X509_V_ERR_CERT_NOT_YET_VALID:
      return fmt::format("{} is valid only from {} on", whose, TimeOf(X509_get0_notBefore(certificate)));
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
      return fmt::format("its certificate is for another host ({})", HostsOf(certificate));
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
      return fmt::format("{} is signed by an unknown authority ({})", whose,
                         certificate ? NameOf(X509_get_issuer_name(certificate)) : "?");
    default: return fmt::format("{} is not accepted: {}", whose, X509_verify_cert_error_string(error));
  }
}

}  // namespace

std::string TakeTlsError() {
  const unsigned long code = ERR_peek_error();
  ERR_clear_error();
  if (code == 0) return "";
  const char* reason = ERR_reason_error_string(code);
  return reason ? reason : fmt::format("TLS error {:#x}", code);
}

// OpenSSL's own socket BIO writes with write(2), which raises SIGPIPE.
const BIO_METHOD* TlsSession::Method() {
  static const BIO_METHOD* const method = [] {
    BIO_METHOD* m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "baton socket");
    BIO_meth_set_write(m, BioWrite);
    BIO_meth_set_read(m, BioRead);
    BIO_meth_set_ctrl(m, BioControl);
    BIO_meth_set_create(m, [](BIO* bio) {
      BIO_set_init(bio, 1);
      return 1;
    });
    return m;
  }();
  return method;
}

int TlsSession::BioWrite(BIO* bio, const char* bytes, int count) {
  std::string& out = static_cast<TlsSession*>(BIO_get_data(bio))->out_;
  if (out.empty()) out.swap(spare);
  out.append(bytes, static_cast<size_t>(count));
  return count;
}

int TlsSession::BioRead(BIO* bio, char* room, int count) {
  auto* self = static_cast<TlsSession*>(BIO_get_data(bio));
  BIO_clear_retry_flags(bio);
  ssize_t n = 0;
  do {
    n = ::recv(self->fd_, room, static_cast<size_t>(count), MSG_DONTWAIT);
  } while (n < 0 && errno == EINTR);
  self->drained_ = n < count;
  if (n > 0) return static_cast<int>(n);
  if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
    BIO_set_retry_read(bio);
    return -1;
  }
  if (n < 0) self->errno_ = errno;
  if (n == 0) self->ended_ = true;
  return static_cast<int>(n);
}

long TlsSession::BioControl(BIO* bio, int command, long, void*) {
  if (command == BIO_CTRL_FLUSH) return 1;
  if (command == BIO_CTRL_EOF) return static_cast<TlsSession*>(BIO_get_data(bio))->ended_ ? 1 : 0;
  return 0;
}

TlsSession::TlsSession(SSL_CTX* context, int fd, bool server)
    : ssl_(SSL_new(context)), fd_(fd) {
  BIO* bio = BIO_new(Method());
  if (!ssl_ || !bio) throw std::bad_alloc();
  BIO_set_data(bio, this);
  SSL_set_bio(ssl_, bio, bio);
  SSL_set_app_data(ssl_, this);
  if (server) SSL_set_accept_state(ssl_);
  else SSL_set_connect_state(ssl_);
}

TlsSession::~TlsSession() {
  // Without this OpenSSL takes an unfinished shutdown for an attack and forgets the session.
  SSL_set_shutdown(ssl_, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
  SSL_free(ssl_);
}

void TlsSession::NoteRefusal(X509_STORE_CTX* store) {
  if (refusal_.empty()) refusal_ = DescribeRefusal(store);
}

bool TlsSession::TakeTicket(SSL_SESSION* ticket) {
  if (!take_ticket_) return false;
  take_ticket_(ticket);
  return true;
}

TlsSession::Step TlsSession::Handshake() {
  ERR_clear_error();
  const int result = SSL_do_handshake(ssl_);
  const Step step = StepAfter(result);
  int error = 0;
  const SendResult flushed = Flush(&error);
  if (step == Step::kFailed || step == Step::kClosed) return Step::kFailed;
  if (flushed == SendResult::kFailed) {
    errno_ = error;
    Fail();
    return Step::kFailed;
  }
  return flushed == SendResult::kBlocked ? Step::kWantWrite : step;
}

TlsSession::Step TlsSession::StepAfter(int result) {
  if (result > 0) return Step::kDone;
  switch (SSL_get_error(ssl_, result)) {
    case SSL_ERROR_WANT_READ: return Step::kWantRead;
    case SSL_ERROR_WANT_WRITE: return Step::kWantWrite;
    case SSL_ERROR_ZERO_RETURN: return Step::kClosed;
    default: Fail(); return Step::kFailed;
  }
}

void TlsSession::Fail() {
  failed_ = true;
  const unsigned long code = ERR_peek_error();
  const int reason = ERR_GET_LIB(code) == ERR_LIB_SSL ? ERR_GET_REASON(code) : 0;
  const std::string text = TakeTlsError();
  if (!problem_.empty()) return;
  if (!refusal_.empty()) problem_ = refusal_;
  else if (errno_ != 0) problem_ = ErrnoText(errno_);
  else if (ended_) problem_ = "the connection ended without TLS's word of closing";
  else if (reason == SSL_R_WRONG_VERSION_NUMBER || reason == SSL_R_HTTP_REQUEST)
    problem_ = "it does not speak TLS on this port";
  else if (reason == SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED)
    problem_ = "it wants a client certificate and got none";
  else problem_ = fmt::format("TLS failed: {}", text.empty() ? "no reason given" : text);
}

TlsSession::Step TlsSession::Read(std::span<char> room, size_t* bytes) {
  *bytes = 0;
  if (failed_) return Step::kFailed;
  Step step = Step::kDone;
  while (*bytes < room.size()) {
    ERR_clear_error();
    size_t n = 0;
    step = StepAfter(SSL_read_ex(ssl_, room.data() + *bytes, room.size() - *bytes, &n));
    if (step != Step::kDone) break;
    *bytes += n;
    if (drained_ && !Pending()) break;
  }
  int error = 0;
  (void)Flush(&error);  // alerts; a broken socket shows at the next read
  if (*bytes > 0) return Step::kDone;  // whatever came behind comes again
  // Only the handshake waits for room to write, and that is over.
  return step == Step::kWantWrite ? Step::kWantRead : step;
}

// One record of what the list has next, gathered when it is in pieces.
bool TlsSession::Encrypt(SendList& list) {
  thread_local std::array<char, kRecordBytes> gathered;
  std::span<iovec> parts = list.parts();
  const char* from = static_cast<const char*>(parts[0].iov_base);
  size_t count = std::min(parts[0].iov_len, kRecordBytes);
  if (count < kRecordBytes && parts.size() > 1) {
    from = gathered.data();
    count = 0;
    for (const iovec& part : parts) {
      const size_t take = std::min(part.iov_len, kRecordBytes - count);
      std::copy_n(static_cast<const char*>(part.iov_base), take, gathered.data() + count);
      count += take;
    }
  }
  ERR_clear_error();
  size_t written = 0;
  const Step step = StepAfter(SSL_write_ex(ssl_, from, count, &written));
  if (step != Step::kDone) {
    if (step != Step::kFailed) Fail();
    return false;
  }
  list.Consume(written);
  return true;
}

SendResult TlsSession::Send(SendList& list, int* error) {
  *error = 0;
  while (true) {
    const SendResult flushed = Flush(error);
    if (flushed != SendResult::kDone) return flushed;
    if (list.empty()) return SendResult::kDone;
    while (!list.empty() && out_.size() < kFlushBytes) {
      if (failed_ || !Encrypt(list)) return SendResult::kFailed;
    }
  }
}

void TlsSession::SendClose() {
  if (failed_ || !SSL_is_init_finished(ssl_)) return;
  ERR_clear_error();
  (void)SSL_shutdown(ssl_);
  int error = 0;
  (void)Flush(&error);  // last words: nobody to tell
  ERR_clear_error();
}

SendResult TlsSession::Flush(int* error) {
  if (out_.empty()) return SendResult::kDone;
  SendList list;
  list.Add(std::string_view(out_).substr(sent_));
  const size_t before = out_.size() - sent_;
  const SendResult result = SendNow(fd_, list, error);
  if (result == SendResult::kDone) {
    ReturnBuffer();
  } else if (result == SendResult::kBlocked) {
    sent_ += before - list.parts()[0].iov_len;
  }
  return result;
}

void TlsSession::ReturnBuffer() {
  out_.clear();
  sent_ = 0;
  if (spare.capacity() < out_.capacity()) spare.swap(out_);
  std::string().swap(out_);
}

}  // namespace baton::http
