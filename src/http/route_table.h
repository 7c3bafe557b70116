// Which handler answers a method and a path. Filled before the server starts, then read-only, so
// any thread may look things up.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "http/server.h"

namespace baton::http {

class RouteTable {
 public:
  void Add(std::string method, std::string path, Handler handler);

  struct Match {
    const Handler* handler = nullptr;
    bool path_known = false;
    std::string allow;  // methods of a known path, when handler is nullptr
  };
  // An exact path wins over "/*" patterns, and a longer pattern over a shorter one. HEAD falls
  // back to GET.
  Match Find(std::string_view method, std::string_view path) const;

 private:
  using Methods = std::vector<std::pair<std::string, Handler>>;
  static const Handler* FindMethod(const Methods& methods, std::string_view method);

  std::map<std::string, Methods, std::less<>> exact_;
  std::map<std::string, Methods, std::less<>> below_;  // by the path up to and with the last '/'
};

}  // namespace baton::http
