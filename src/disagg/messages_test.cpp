#include "disagg/messages.h"

#include <cmath>

#include <gtest/gtest.h>

namespace baton::disagg {
namespace {

PeerInfo MakeInfo() {
  return {42, 43, "prefill a:1", "llama", {30, 16, 3, 64, kernels::DType::kF16}, 77, std::string("\0blob", 5)};
}

Cancel MakeCancel() { return {1, 2, "decode", Error(Code::kResourceExhausted, "no pages")}; }

TEST(Messages, PeerInfoRoundTrips) {
  const auto info = DecodePeerInfo(Encode(MakeInfo()));
  ASSERT_TRUE(info.ok());
  EXPECT_EQ(info->instance, 42u);
  EXPECT_EQ(info->layout, MakeInfo().layout);
  EXPECT_EQ(info->clock, 77u);
  EXPECT_EQ(info->fabric, MakeInfo().fabric);
}

TEST(Messages, EveryTruncationIsRefused) {
  Grant grant{1, 2, 9, 3, {4, 5}, 40, 16, {7, 8}, 1000, true};
  for (const std::string& whole : {Encode(MakeInfo()), Encode(grant), Encode(MakeCancel())}) {
    for (size_t n = 0; n < whole.size(); ++n) {
      const std::string_view cut(whole.data(), n);
      EXPECT_FALSE(DecodePeerInfo(cut).ok() && whole == Encode(MakeInfo()));
      if (whole == Encode(grant)) {
        EXPECT_FALSE(DecodeGrant(cut).ok()) << n;
      }
      if (whole == Encode(MakeCancel())) {
        EXPECT_FALSE(DecodeCancel(cut).ok()) << n;
      }
    }
    EXPECT_FALSE(DecodeGrant(whole + "x").ok());
  }
}

TEST(Messages, CancelTellsWhyAndWhoseFault) {
  const auto cancel = DecodeCancel(Encode(MakeCancel()));
  ASSERT_TRUE(cancel.ok()) << cancel.status().ToString();
  EXPECT_EQ(cancel->room, 2);
  EXPECT_EQ(cancel->guilty, "decode");
  EXPECT_EQ(cancel->why.ToString(), MakeCancel().why.ToString());
  std::string bytes = Encode(MakeCancel());
  bytes[16] = 3;  // no such side
  EXPECT_FALSE(DecodeCancel(bytes).ok());
  bytes = Encode(MakeCancel());
  bytes[17] = '\xff';  // no such code
  EXPECT_FALSE(DecodeCancel(bytes).ok());
  bytes[17] = 0;  // nothing went wrong
  EXPECT_FALSE(DecodeCancel(bytes).ok());
}

TEST(Messages, HelloIsReadWithPulsesBehindIt) {
  const std::string hello = EncodeHello(MakeInfo());
  for (size_t n = 0; n < hello.size(); ++n) {
    const auto part = DecodeHello(std::string_view(hello).substr(0, n));
    ASSERT_TRUE(part.ok()) << n;
    EXPECT_FALSE(part->has_value()) << n;
  }
  const auto whole = DecodeHello(hello + std::string(kPulse));
  ASSERT_TRUE(whole.ok() && whole->has_value());
  EXPECT_EQ((*whole)->fabric, MakeInfo().fabric);
  EXPECT_FALSE(DecodeHello("\xff\xff\xff\xff").ok()) << "nobody waits for 4 GiB";
}

TEST(Messages, OtherProtocolVersionSaysWhatToDo) {
  std::string bytes = Encode(MakeInfo());
  bytes[0] = 9;
  const auto info = DecodePeerInfo(bytes);
  ASSERT_EQ(info.status().code(), Code::kUnsupported);
  EXPECT_NE(info.status().message().find("same version"), std::string::npos);
}

TEST(Messages, FramesRoundTripInAnyPieces) {
  Seal seal;
  seal.writes = 7;
  seal.bytes = uint64_t{1} << 40;
  seal.last_layer_ns = int64_t{1} << 50;
  seal.first_token_ns = (int64_t{1} << 50) + 1;
  seal.first.token = 11;
  seal.first.logprob = {11, -0.5f, {{11, -0.5f}, {3, -2.0f}}, {{9, -4.0f}}};
  seal.first.prompt_logprobs = {{5, std::nanf(""), {}, {}}, {6, -1.0f, {{1, -0.25f}}, {}}};
  const std::string bytes = EncodeFrame(seal) + EncodeFrame(End{Error(Code::kUnavailable, "gone")});
  for (size_t piece = 1; piece <= bytes.size(); ++piece) {
    FrameParser parser;
    std::vector<Frame> frames;
    for (size_t at = 0; at < bytes.size(); at += piece) {
      parser.Feed(std::string_view(bytes).substr(at, piece));
      while (true) {
        auto frame = parser.Next();
        ASSERT_TRUE(frame.ok());
        if (!frame->has_value()) break;
        frames.push_back(std::move(**frame));
      }
    }
    ASSERT_EQ(frames.size(), 2u);
    const Seal& got = std::get<Seal>(frames[0]);
    EXPECT_EQ(got.writes, 7u);
    EXPECT_EQ(got.bytes, seal.bytes);
    EXPECT_EQ(got.last_layer_ns, seal.last_layer_ns);
    EXPECT_EQ(got.first_token_ns, seal.first_token_ns);
    EXPECT_EQ(got.first.logprob.top, seal.first.logprob.top);
    EXPECT_EQ(got.first.logprob.requested, seal.first.logprob.requested);
    EXPECT_TRUE(std::isnan(got.first.prompt_logprobs[0].logprob));
    EXPECT_EQ(got.first.prompt_logprobs[1].top, seal.first.prompt_logprobs[1].top);
    EXPECT_EQ(std::get<End>(frames[1]).status.message(), "gone");
  }
}

TEST(Messages, DifferentModelsAndLayoutsDoNotPair) {
  PeerInfo mine = MakeInfo(), theirs = MakeInfo();
  EXPECT_TRUE(CheckCompatible(mine, theirs).ok());
  theirs.layout.dtype = kernels::DType::kF32;
  EXPECT_NE(CheckCompatible(mine, theirs).message().find("--kv-cache-dtype"), std::string::npos);
  theirs = MakeInfo();
  theirs.layout.page_tokens = 64;
  EXPECT_TRUE(CheckCompatible(mine, theirs).ok());
  for (const int hostile : {0, -16, 1 << 30}) {
    theirs.layout.page_tokens = hostile;
    EXPECT_NE(CheckCompatible(mine, theirs).message().find("--page-size"), std::string::npos) << hostile;
  }
  theirs = MakeInfo();
  theirs.model = "qwen";
  EXPECT_NE(CheckCompatible(mine, theirs).message().find("--model-path"), std::string::npos);
}

}  // namespace
}  // namespace baton::disagg
