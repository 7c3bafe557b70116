// One TLS connection over a non-blocking socket: the same calls as on a plain one, each of which
// does what can be done now and says what to wait for. The socket is borrowed. Not thread-safe.
//
// Records to be sent gather in a buffer of their own, so that OpenSSL never has to be asked again
// with the same bytes, what a caller sends as four pieces leaves as one record, and several records
// as one write. A session keeps that buffer only while the kernel does not take what is in it.
#pragma once

#include <functional>
#include <span>
#include <string>

#include <openssl/ssl.h>

#include "http/socket_io.h"

namespace baton::http {

class TlsSession {
 public:
  enum class Step { kDone, kWantRead, kWantWrite, kClosed, kFailed };

  // Holds its own reference to `context`.
  TlsSession(SSL_CTX* context, int fd, bool server);
  ~TlsSession();
  TlsSession(const TlsSession&) = delete;
  TlsSession& operator=(const TlsSession&) = delete;

  SSL* ssl() { return ssl_; }

  // Call again after the wait, until kDone or kFailed.
  Step Handshake();
  // Fills `room` with what the socket has now: kDone with *bytes > 0; then, unless Pending(), the
  // next call would find nothing before the socket is readable again. kClosed: the peer said that it
  // sends no more. An end without that word is a failure, since anyone on the way can make one.
  Step Read(std::span<char> room, size_t* bytes);
  // As SendNow. With kBlocked the rest of the list has to be offered again.
  SendResult Send(SendList& list, int* error);
  // Tells the peer that nothing more will be sent.
  void SendClose();

  // Read has something to tell that the socket does not show any more: bytes, the end, a failure.
  bool Pending() const {
    return failed_ || SSL_has_pending(ssl_) != 0 || (SSL_get_shutdown(ssl_) & SSL_RECEIVED_SHUTDOWN) != 0;
  }
  // After kFailed, or kFailed of Send with error 0: what was wrong, in words.
  const std::string& problem() const { return problem_; }
  // When the peer's certificate was refused: why. Called by the verification.
  void NoteRefusal(X509_STORE_CTX* store);
  // Takes the sessions that the server gives for later connections; called within Read.
  void SetTickets(std::function<void(SSL_SESSION* ticket)> take) { take_ticket_ = std::move(take); }
  bool TakeTicket(SSL_SESSION* ticket);

 private:
  static const BIO_METHOD* Method();
  static int BioWrite(BIO* bio, const char* bytes, int count);
  static int BioRead(BIO* bio, char* room, int count);
  static long BioControl(BIO* bio, int command, long, void*);

  SendResult Flush(int* error);
  void ReturnBuffer();
  bool Encrypt(SendList& list);
  // What the last call of OpenSSL's wants.
  Step StepAfter(int result);
  void Fail();

  SSL* ssl_ = nullptr;
  const int fd_;
  bool ended_ = false;   // the socket is at its end
  bool drained_ = false;  // the last read of the socket got less than it asked for
  bool failed_ = false;
  int errno_ = 0;        // of the socket
  std::string out_;      // records not yet taken by the kernel ...
  size_t sent_ = 0;      // ... from here on
  std::function<void(SSL_SESSION*)> take_ticket_;
  std::string refusal_;
  std::string problem_;
};

// The first error in OpenSSL's queue (the later ones are its callers') in words; empties the queue.
std::string TakeTlsError();

}  // namespace baton::http
