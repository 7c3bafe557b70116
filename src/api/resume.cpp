#include "api/resume.h"

namespace baton::api {
namespace {

constexpr std::string_view kField = "baton_resume";

void ReadChoice(FieldReader& reader, const json::value& from, ResumeChoice& out) {
  if (!from.is_object()) {
    return reader.Fail(Error(Code::kInvalidArgument, "baton_resume.choices must hold objects, found {}", json::KindName(from)), kField);
  }
  FieldReader choice(from.get_object());
  choice.TokenIds("ids", out.ids);
  choice.Bool("opened", out.opened);
  choice.Bool("ended", out.ended);
  choice.String("id", out.id);
  if (!choice.status().ok()) reader.Fail(choice.status(), kField);
}

}  // namespace

void ReadResume(FieldReader& reader, size_t choices, bool stream, std::optional<Resume>& out) {
  const json::value* v = reader.Take(kField);
  if (!v) return;
  if (!v->is_object()) return reader.Wrong(kField, "an object", *v);
  if (!stream) {
    return reader.Fail(Error(Code::kInvalidArgument, "baton_resume is for requests with stream: true; send others again whole"), kField);
  }
  Resume resume;
  FieldReader fields(v->get_object());
  fields.String("id", resume.id);
  fields.Integer("created", resume.created, 0);
  fields.Integer("migrations", resume.migrations, 0);
  const json::value* list = fields.Take("choices");
  if (!fields.status().ok()) return reader.Fail(fields.status(), kField);
  if (!list || !list->is_array() || list->get_array().size() != choices) {
    return reader.Fail(Error(Code::kInvalidArgument, "baton_resume.choices must be an array of {} entries, one per choice of "
                             "the request", choices), kField);
  }
  resume.choices.resize(choices);
  for (size_t i = 0; i < choices && reader.status().ok(); ++i) ReadChoice(reader, list->get_array()[i], resume.choices[i]);
  if (reader.status().ok()) out = std::move(resume);
}

}  // namespace baton::api
