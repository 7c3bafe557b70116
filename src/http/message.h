// HTTP requests and responses as plain values. Beast types end inside http/.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace baton::http {

// Header fields in order of arrival; names compare without case.
class Headers {
 public:
  void Add(std::string name, std::string value) { fields_.emplace_back(std::move(name), std::move(value)); }
  void Set(std::string_view name, std::string value);  // replaces all of that name
  void Remove(std::string_view name);
  // First value, or "" when absent.
  std::string_view Get(std::string_view name) const;
  bool Has(std::string_view name) const;
  // Is `item` in the comma-separated list that all fields of that name make together? Without case.
  bool Lists(std::string_view name, std::string_view item) const;
  auto begin() const { return fields_.begin(); }
  auto end() const { return fields_.end(); }
  size_t size() const { return fields_.size(); }

 private:
  std::vector<std::pair<std::string, std::string>> fields_;
};

bool EqualsIgnoreCase(std::string_view a, std::string_view b);

// For keys and passwords: runs as long for a wrong one as for a right one of the same length.
bool SameSecret(std::string_view a, std::string_view b);
// Does an Authorization field carry this key ("Bearer KEY")?
bool IsBearer(std::string_view authorization, std::string_view key);

struct Request {
  std::string method;   // "GET", "POST" ...
  std::string target;   // as on the wire: path and query
  std::string path;     // percent-decoded path without the query
  std::vector<std::pair<std::string, std::string>> query;  // decoded
  Headers headers;
  std::string body;
  std::string peer;     // "127.0.0.1:40000"
  std::string id;       // for the server's user, who may give one; empty until then
  // The value of the first query parameter of that name, or "".
  std::string_view QueryValue(std::string_view name) const;
};

struct Response {
  int status = 200;
  Headers headers;
  std::string body;
};

// "Bad Request" for 400 and so on; "Unknown" for codes without a name.
std::string_view ReasonPhrase(int status);

}  // namespace baton::http
