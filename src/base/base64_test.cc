#include "base/base64.h"

#include <gtest/gtest.h>

namespace colossus {
namespace {

// RFC 4648, section 10.
TEST(Base64, KnownAnswers) {
  const std::pair<const char*, const char*> answers[] = {{"", ""},
                                                         {"f", "Zg=="},
                                                         {"fo", "Zm8="},
                                                         {"foo", "Zm9v"},
                                                         {"foob", "Zm9vYg=="},
                                                         {"fooba", "Zm9vYmE="},
                                                         {"foobar", "Zm9vYmFy"},
                                                         {"\xff\xef\xbe", "/+++"}};
  for (const auto& [bytes, text] : answers) {
    EXPECT_EQ(encode_base64(bytes), text);
    EXPECT_EQ(decode_base64(text), bytes);
  }
}

TEST(Base64, HoldsAllBytes) {
  std::string bytes;
  for (int i = 0; i < 256; ++i) bytes += static_cast<char>(i);
  for (size_t size = 250; size <= bytes.size(); ++size) {
    EXPECT_EQ(decode_base64(encode_base64(bytes.substr(0, size))), bytes.substr(0, size));
  }
}

TEST(Base64, RefusesWhatItDoesNotWrite) {
  for (const char* text : {"Zg", "Zg=", "Z===", "====", "=", "Zg==Zg==", "Z=g=", "Zm9v\n", "Zm9\n", "Zm 9", "Zm-_",
                           "Zh==", "Zm9=", "Zm\xc3\xa9"}) {
    EXPECT_EQ(decode_base64(text), std::nullopt) << text;
  }
}

}  // namespace
}  // namespace colossus
