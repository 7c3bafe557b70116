// `baton render-chat`: prints what a model would read for a chat request, byte for byte.
#include <cstdio>
#include <fstream>
#include <iostream>
#include <iterator>

#include "api/errors.h"
#include "cli/commands.h"
#include "cli/flags.h"
#include "server/model_text.h"
#include "tokenizer/render_chat.h"

namespace baton::cli {
namespace {

const std::vector<Flag> kFlags = {
    {"chat-template", FlagKind::kString, "", "Jinja file (or text) to render"},
    {"model-path", FlagKind::kString, "", "take template and bos/eos from this model", {"model"}},
    {"bos-token", FlagKind::kString, "", "text of bos_token"},
    {"eos-token", FlagKind::kString, "", "text of eos_token"},
    {"now", FlagKind::kString, "", "time for strftime_now: 2026-11-22T12:00:00; default: the clock"},
};

int Fail(const Status& status) {
  std::fprintf(stderr, "baton render-chat: %s\n", status.message().c_str());
  return api::RowOf(status.code()).exit_code;
}

Result<std::string> ReadInput(const std::string& path) {
  if (path == "-") return std::string(std::istreambuf_iterator<char>(std::cin), {});
  std::ifstream in(path, std::ios::binary);
  if (!in) return Error(Code::kNotFound, "cannot read {}", path);
  return std::string(std::istreambuf_iterator<char>(in), {});
}

Result<std::string> Render(const FlagValues& flags, const std::string& request_path) {
  auto body = ReadInput(request_path);
  if (!body.ok()) return body.status();
  std::string bos, eos;
  std::optional<tokenizer::ChatTemplate> chat_template;
  if (flags.Has("model-path")) {
    auto files = model::ResolveModel(flags.Text("model-path"));
    if (!files.ok()) return files.status();
    server::ModelTextOptions options;
    options.chat_template = flags.Text("chat-template");
    auto text = server::LoadModelText(*files, nullptr, options);
    if (!text.ok()) return text.status();
    if (!text->chat_template) return Error(Code::kInvalidArgument, "this model has no chat template: give --chat-template");
    chat_template = std::move(text->chat_template);
    bos = text->bos_token;
    eos = text->eos_token;
  } else {
    const std::string given = flags.Text("chat-template");
    auto source = tokenizer::IsTemplateText(given) ? Result<std::string>(given) : ReadInput(given);
    if (!source.ok()) return source.status();
    auto parsed = tokenizer::ChatTemplate::Parse(*source);
    if (!parsed.ok()) return parsed.status().Prefixed(flags.Text("chat-template"));
    chat_template = std::move(*parsed);
  }
  if (flags.Has("bos-token")) bos = flags.Text("bos-token");
  if (flags.Has("eos-token")) eos = flags.Text("eos-token");
  tokenizer::RenderSettings settings{bos, eos, std::nullopt};
  if (flags.Has("now")) {
    auto now = tokenizer::ParseRenderTime(flags.Text("now"));
    if (!now.ok()) return now.status().Prefixed("--now");
    settings.now = *now;
  }
  auto input = tokenizer::ParseRenderRequest(*body, settings);
  if (!input.ok()) return input.status().Prefixed(request_path);
  return tokenizer::RenderChat(*chat_template, std::move(*input));
}

}  // namespace

int RunRenderChat(const std::vector<std::string>& arguments) {
  const std::string usage = "usage: baton render-chat --chat-template FILE | --model-path M [flags] REQUEST.json\n       (REQUEST.json may be - for standard input)\n\n" + DescribeFlags(kFlags);
  if (WantsHelp(arguments)) {
    std::fputs(usage.c_str(), stdout);
    return 0;
  }
  // The request file is the one argument without dashes; it may stand anywhere.
  std::vector<std::string> flags_only, files;
  for (size_t i = 0; i < arguments.size(); ++i) {
    if (!arguments[i].starts_with("--")) {
      files.push_back(arguments[i]);
      continue;
    }
    flags_only.push_back(arguments[i]);
    if (arguments[i].find('=') == std::string::npos && i + 1 < arguments.size()) flags_only.push_back(arguments[++i]);
  }
  auto flags = ParseFlags(kFlags, flags_only);
  const bool usable = flags.ok() && files.size() == 1 && (flags->Has("chat-template") || flags->Has("model-path"));
  if (!usable) {
    std::fprintf(stderr, "%s\n%s", flags.ok() ? "" : flags.status().message().c_str(), usage.c_str());
    return 2;
  }
  auto text = Render(*flags, files[0]);
  if (!text.ok()) return Fail(text.status());
  std::fwrite(text->data(), 1, text->size(), stdout);
  return 0;
}

}  // namespace baton::cli
