// `baton chat`: a conversation in the terminal.
#include <cstdio>
#include <iostream>

#include "cli/chat_client.h"
#include "cli/commands.h"
#include "cli/flags.h"

namespace baton::cli {
namespace {

const std::vector<Flag> kFlags = {
    {"url", FlagKind::kString, "http://127.0.0.1:8000", "router or server"},
    {"model", FlagKind::kString, "default", "model name to send"},
    {"system", FlagKind::kString, "", "system message"},
    {"max-tokens", FlagKind::kInteger, "1024", "longest answer"},
    {"temperature", FlagKind::kNumber, "0.7", "0: always the likeliest token"},
    {"once", FlagKind::kString, "", "ask this one question and exit"},
};

json::object Message(std::string_view role, std::string_view text) {
  return {{"role", role}, {"content", text}};
}

// Asks, prints the answer as it comes; false when it failed.
bool Ask(const FlagValues& flags, json::array& messages) {
  const ChatOptions options{flags.Text("url"), flags.Text("model"), static_cast<int>(flags.Integer("max-tokens")),
                            flags.Number("temperature")};
  auto answer = StreamChat(options, messages, [](std::string_view text) {
                             std::fwrite(text.data(), 1, text.size(), stdout);
                             std::fflush(stdout);
                           },
                           600s);
  if (!answer.ok()) {
    std::fprintf(stderr, "\nbaton chat: %s\n", answer.status().message().c_str());
    return false;
  }
  std::printf("\n\033[2m[%s]\033[0m\n", DescribeTimings(*answer).c_str());
  messages.push_back(Message("assistant", answer->text));
  return true;
}

}  // namespace

int RunChat(const std::vector<std::string>& arguments) {
  if (WantsHelp(arguments)) {
    std::printf("usage: baton chat [--url URL] [flags]\n\n%s", DescribeFlags(kFlags).c_str());
    return 0;
  }
  auto flags = ParseFlags(kFlags, arguments);
  if (!flags.ok()) {
    std::fprintf(stderr, "baton chat: %s\n\n%s", flags.status().message().c_str(), DescribeFlags(kFlags).c_str());
    return 2;
  }
  json::array messages;
  if (flags->Has("system")) messages.push_back(Message("system", flags->Text("system")));
  if (flags->Has("once")) {
    messages.push_back(Message("user", flags->Text("once")));
    return Ask(*flags, messages) ? 0 : 4;
  }
  std::printf("Chat with %s. An empty line or Ctrl-D ends it.\n", flags->Text("url").c_str());
  std::string line;
  while (std::printf("> "), std::fflush(stdout), std::getline(std::cin, line) && !line.empty()) {
    messages.push_back(Message("user", line));
    if (!Ask(*flags, messages)) messages.pop_back();
  }
  std::printf("\n");
  return 0;
}

}  // namespace baton::cli
