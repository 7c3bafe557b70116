// The fields of a worker in JSON: what POST /workers takes and a workers file holds
// (specs/sglang-pd-protocol.md 3.9).
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "common/json.h"
#include "router/registry.h"

namespace baton::router {

// Optional fields of one object, read one by one; the first of a wrong type is told by status().
class FieldReader {
 public:
  explicit FieldReader(const json::object& from) : from_(from) {}

  void Text(std::string_view key, std::string* out);
  void Integer(std::string_view key, int64_t* out);
  void Number(std::string_view key, double* out);
  void Flag(std::string_view key, bool* out);
  void TextMap(std::string_view key, std::map<std::string, std::string>* out);
  Status status() const { return status_; }

 private:
  template <typename Is>
  const json::value* Want(std::string_view key, std::string_view kind, const Is& is);

  const json::object& from_;
  Status status_;
};

// Unknown fields are skipped. kInvalidArgument: a field of a wrong type or out of range, no url, a
// worker_type that does not fit the mode.
Result<WorkerConfig> ReadNewWorker(bool pd, const json::object& body);

// kInvalidArgument names a field that ReadNewWorker would skip, and those that it knows.
Status CheckKnownFields(const json::object& body);

}  // namespace baton::router
