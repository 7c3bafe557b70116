// Cross-origin requests of browsers (the Fetch standard's CORS protocol): which pages may call the
// client routes. It guards the browser's user; who may call at all is a matter of keys.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "http/server.h"

namespace baton::router {

class Cors {
 public:
  // Exact origins ("https://chat.example"); none, or "*" among them: all.
  explicit Cors(std::vector<std::string> origins);

  // Named as itself, not by "*".
  bool Lists(std::string_view origin) const;

  // Puts the fields of the answer to a request with Origin onto whatever head it gets.
  void Prepare(const http::Request& request, http::Responder& responder) const;
  static bool IsPreflight(const http::Request& request);
  http::Response AnswerPreflight(const http::Request& request) const;

 private:
  // The value of Access-Control-Allow-Origin; "" for a page that may not call.
  std::string_view Allowed(std::string_view origin) const;

  std::vector<std::string> origins_;
  bool any_ = false;
};

}  // namespace baton::router
