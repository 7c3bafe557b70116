// The chunk decoder against Beast's, and cut at every pair of places.
#include "http/chunk_decoder.h"

#include <boost/beast/http.hpp>
#include <gtest/gtest.h>

namespace baton::http {
namespace {

struct Outcome {
  std::string body;
  size_t used = 0;
  bool done = false;
  bool failed = false;
  bool operator==(const Outcome&) const = default;
};

Outcome Decode(std::string_view bytes, std::initializer_list<size_t> cuts) {
  ChunkDecoder decoder(1000);
  Outcome outcome;
  size_t from = 0;
  for (size_t cut : cuts) {
    const std::string_view piece = bytes.substr(from, cut - from);
    const size_t used = decoder.Decode(piece, &outcome.body);
    outcome.used += used;
    if (used < piece.size()) break;
    from = cut;
  }
  outcome.done = decoder.done();
  outcome.failed = decoder.error() != nullptr;
  if (outcome.failed) outcome.body.clear();
  return outcome;
}

TEST(ChunkDecoder, IsTheSameForEveryTwoCuts) {
  for (const std::string text :
       {"0\r\n\r\nnext", "3\r\nabc\r\n00000A;n=\"v\";x\r\n0123456789\r\n0;e\r\nA: b\r\nC:\r\n\r\nnext",
        "3\r\nabcd", "1\r\na\r\nx", "0\r\nA b\r\n\r\n"}) {
    const Outcome want = Decode(text, {text.size()});
    if (text.ends_with("next")) {
      EXPECT_TRUE(want.done) << text;
      EXPECT_EQ(want.used, text.size() - 4);
    } else {
      EXPECT_TRUE(want.failed) << text;
    }
    for (size_t a = 0; a <= text.size(); ++a) {
      for (size_t b = a; b <= text.size(); ++b)
        ASSERT_EQ(Decode(text, {a, b, text.size()}), want) << text << " cut at " << a << ", " << b;
    }
  }
}

// Every byte in every place: what this decoder takes, Beast must take alike.
TEST(ChunkDecoder, AgreesWithBeast) {
  const std::string base = "3\r\nabc\r\na;b=c\r\n0123456789\r\n0\r\nA: b\r\n\r\n";
  const std::string head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
  int accepted = 0;
  for (size_t at = 0; at < base.size(); ++at) {
    for (int byte = 0; byte < 256; ++byte) {
      std::string text = base;
      text[at] = static_cast<char>(byte);
      const Outcome ours = Decode(text, {text.size()});
      if (!ours.done) continue;
      ++accepted;
      boost::beast::http::request_parser<boost::beast::http::string_body> oracle;
      oracle.eager(true);
      boost::system::error_code ec;
      oracle.put(boost::asio::buffer(head), ec);
      const size_t used = oracle.put(boost::asio::buffer(text), ec);
      // The text of extensions is dropped, so ours does not parse it.
      if (ec == boost::beast::http::error::bad_chunk_extension) continue;
      EXPECT_FALSE(ec) << text << ": " << ec.message();
      EXPECT_EQ(used, ours.used) << text;
      EXPECT_EQ(oracle.get().body(), ours.body) << text;
    }
  }
  EXPECT_GT(accepted, 3000);
}

TEST(ChunkDecoder, BoundsWhatItDrops) {
  std::string out;
  ChunkDecoder zeros(10);
  zeros.Decode(std::string(100'000, '0'), &out);
  EXPECT_TRUE(zeros.error());
  ChunkDecoder extensions(1 << 20);
  for (int i = 0; i < 10'000 && !extensions.error(); ++i)
    extensions.Decode("1;" + std::string(100, 'e') + "\r\nx\r\n", &out);
  EXPECT_TRUE(extensions.error());
  ChunkDecoder trailers(10);
  trailers.Decode("0\r\n", &out);
  for (int i = 0; i < 10'000 && !trailers.error(); ++i) trailers.Decode("Name: value\r\n", &out);
  EXPECT_TRUE(trailers.error());
  ChunkDecoder small(1 << 20);
  for (int i = 0; i < 100'000; ++i) small.Decode("00001\r\nx\r\n", &out);
  EXPECT_FALSE(small.error()) << "honest small chunks must go on for ever";
  ChunkDecoder large(10);
  large.Decode("6\r\n012345\r\n5\r\n", &out);
  EXPECT_TRUE(large.body_too_large());
}

}  // namespace
}  // namespace baton::http
