// Beast's parser for message heads, set up to fill our own values without Beast's containers in
// between. Bodies are not its business: CheckFraming says how long they are.
//
// The caller finds the end of the head and passes the head through CheckHeadBytes first.
#pragma once

#include <string>

#include <boost/beast/http/basic_parser.hpp>

#include "http/message.h"

namespace baton::http {

template <bool kIsRequest>
class HeadParser final : public boost::beast::http::basic_parser<kIsRequest> {
 public:
  using string_view = boost::beast::string_view;
  using error_code = boost::beast::error_code;

  explicit HeadParser(Headers* headers) : headers_(headers) {
    this->header_limit(UINT32_MAX);
    this->body_limit(boost::none);
  }

  // Parses a whole head, fields into *headers.
  error_code Parse(std::string_view head) {
    error_code ec;
    this->put(boost::asio::buffer(head.data(), head.size()), ec);
    return ec;
  }

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
    headers_->Add(std::string(name.data(), name.size()), std::string(value.data(), value.size()));
  }
  void on_header_impl(error_code&) override {}
  void on_body_init_impl(const boost::optional<uint64_t>&, error_code&) override {}
  size_t on_body_impl(string_view, error_code&) override { return 0; }
  void on_chunk_header_impl(uint64_t, string_view, error_code&) override {}
  size_t on_chunk_body_impl(uint64_t, string_view, error_code&) override { return 0; }
  void on_finish_impl(error_code&) override {}

  Headers* headers_;
  std::string method_;
  std::string target_;
  int status_ = 0;
  int version_ = 11;
  bool known_method_ = false;
};

using RequestHeadParser = HeadParser<true>;
using ResponseHeadParser = HeadParser<false>;

}  // namespace baton::http
