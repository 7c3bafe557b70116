// Beast's parser set up to fill our own values, without Beast's containers in between.
//
// The caller finds the end of the head, passes the head through CheckHeadBytes, then `put`s it;
// after that `put` takes body bytes (Beast removes the chunking). Trailer fields are checked and
// dropped. Not thread-safe.
#pragma once

#include <string>

#include <boost/beast/http/basic_parser.hpp>

#include "http/message.h"

namespace baton::http {

template <bool kIsRequest>
class Parser final : public boost::beast::http::basic_parser<kIsRequest> {
 public:
  using string_view = boost::beast::string_view;
  using error_code = boost::beast::error_code;

  // Body bytes are appended to *body (which may be changed between calls), `max_body_bytes` in all.
  Parser(Headers* headers, std::string* body, uint64_t max_body_bytes)
      : headers_(headers), body_(body), body_left_(max_body_bytes) {
    this->eager(true);
    this->header_limit(UINT32_MAX);
    this->body_limit(boost::none);
  }

  void set_body(std::string* body) { body_ = body; }
  std::string take_method() { return std::move(method_); }
  std::string take_target() { return std::move(target_); }
  int status() const { return status_; }
  int version() const { return version_; }  // 10 or 11
  bool known_method() const { return known_method_; }

 private:
  void on_request_impl(boost::beast::http::verb verb, string_view method, string_view target,
                       int version, error_code&) override {
    known_method_ = verb != boost::beast::http::verb::unknown;
    method_.assign(method.data(), method.size());
    target_.assign(target.data(), target.size());
    version_ = version;
  }
  void on_response_impl(int status, string_view, int version, error_code&) override {
    status_ = status;
    version_ = version;
  }
  void on_field_impl(boost::beast::http::field, string_view name, string_view value,
                     error_code&) override {
    if (in_body_) return;
    headers_->Add(std::string(name.data(), name.size()), std::string(value.data(), value.size()));
  }
  void on_header_impl(error_code&) override { in_body_ = true; }
  void on_body_init_impl(const boost::optional<uint64_t>&, error_code&) override {}
  size_t on_body_impl(string_view piece, error_code& ec) override { return Append(piece, ec); }
  void on_chunk_header_impl(uint64_t size, string_view, error_code& ec) override {
    if (size > body_left_) ec = boost::beast::http::error::body_limit;
  }
  size_t on_chunk_body_impl(uint64_t, string_view piece, error_code& ec) override {
    return Append(piece, ec);
  }
  void on_finish_impl(error_code&) override {}

  size_t Append(string_view piece, error_code& ec) {
    if (piece.size() > body_left_) {
      ec = boost::beast::http::error::body_limit;
      return 0;
    }
    body_left_ -= piece.size();
    body_->append(piece.data(), piece.size());
    return piece.size();
  }

  Headers* headers_;
  std::string* body_;
  uint64_t body_left_;
  std::string method_;
  std::string target_;
  int status_ = 0;
  int version_ = 11;
  bool known_method_ = false;
  bool in_body_ = false;
};

using RequestParser = Parser<true>;
using ResponseParser = Parser<false>;

}  // namespace baton::http
