#include "comm/etcd_messages.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace colossus {
namespace {

using ::testing::HasSubstr;

TEST(EtcdMessages, AreWhatTheApiWants) {
  EXPECT_STREQ(etcd_range("a/b").path, "/v3/kv/range");
  EXPECT_EQ(etcd_range("a/b").body, R"({"key":"YS9i"})");
  EXPECT_STREQ(etcd_put("a/b", "hello").path, "/v3/kv/put");
  EXPECT_EQ(etcd_put("a/b", "hello").body, R"({"key":"YS9i","value":"aGVsbG8="})");
  EXPECT_STREQ(etcd_delete("a/b").path, "/v3/kv/deleterange");
  EXPECT_EQ(etcd_delete("a/b").body, R"({"key":"YS9i"})");
  const std::string put = R"(],"success":[{"request_put":{"key":"YS9i","value":"Mg=="}}]})";
  const std::string compare = R"({"compare":[{"key":"YS9i","result":"EQUAL",)";
  EXPECT_STREQ(etcd_put_if_absent("a/b", "2").path, "/v3/kv/txn");
  EXPECT_EQ(etcd_put_if_absent("a/b", "2").body, compare + R"("target":"CREATE","create_revision":"0"})" + put);
  EXPECT_EQ(etcd_put_if_value("a/b", "1", "2").body, compare + R"("target":"VALUE","value":"MQ=="})" + put);
  EXPECT_EQ(etcd_put_if_revision("a/b", 17, "2").body, compare + R"("target":"MOD","mod_revision":"17"})" + put);
}

const std::string kFound =
    R"({"header":{"revision":"5"},"kvs":[{"key":"YS9i","create_revision":"2","mod_revision":"5","version":"2",)"
    R"("value":"aGVsbG8="}],"count":"1"})";

TEST(EtcdMessages, UnderstandsAnswers) {
  const std::optional<EtcdValue> found = parse_etcd_range(kFound, "a/b").value();
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->value, "hello");
  EXPECT_EQ(found->revision, 5);
  const std::string empty = R"({"header":{},"kvs":[{"key":"YS9i","mod_revision":"3"}],"count":"1"})";
  EXPECT_EQ(parse_etcd_range(empty, "a/b").value()->value, "");
  EXPECT_FALSE(parse_etcd_range(R"({"header":{"revision":"5"}})", "a/b").value().has_value());
  EXPECT_TRUE(parse_etcd_put_if(R"({"header":{},"succeeded":true,"responses":[]})").value());
  EXPECT_FALSE(parse_etcd_put_if(R"({"header":{}})").value());
  EXPECT_TRUE(parse_etcd_done(R"({"header":{}})").ok());
}

TEST(EtcdMessages, RefusesWhatIsNoAnswer) {
  const char* const wrong[] = {
      R"({"header":{},"kvs":[{"key":"YS9i","mod_revision":"3","value":"aGVsbG8"}],"count":"1"})",
      R"({"header":{},"kvs":[{"key":"YS9i","mod_revision":"3","value":7}],"count":"1"})",
      R"({"header":{},"kvs":[{"key":"YS9j","mod_revision":"3","value":""}],"count":"1"})",
      R"({"header":{},"kvs":[{"key":"YS9i","mod_revision":3,"value":""}],"count":"1"})",
      R"({"header":{},"kvs":[{"key":"YS9i","mod_revision":"3x"}],"count":"1"})",
      R"({"header":{},"kvs":[{"key":"YS9i"}],"count":"1"})",
      R"({"header":{},"kvs":[{"key":"YS9i","mod_revision":"3"}],"count":"2"})",
      R"({"header":{},"kvs":[{"key":"YS9i","mod_revision":"3"},{"key":"YS9i","mod_revision":"3"}],"count":"2"})",
      R"({"header":{},"kvs":["YS9i"],"count":"1"})",
      R"({"header":{},"kvs":{},"count":"1"})",
      R"({"header":{},"count":"1"})",
      R"({"header":{},"count":1})",
      R"({"header":{},"kvs":[]})"
      "}",
      R"({"header":7})",
      R"({})",
      R"([{"header":{}}])",
      "null",
      "\"header\"",
      "Not Found\n",
      "",
  };
  for (const char* body : wrong) {
    const auto found = parse_etcd_range(body, "a/b");
    ASSERT_FALSE(found.ok()) << body;
    EXPECT_EQ(found.status().code(), ErrorCode::kCorrupt);
    EXPECT_THAT(found.status().message(), HasSubstr("is not etcd's"));
  }
  EXPECT_EQ(parse_etcd_put_if(R"({"header":{},"succeeded":1})").status().code(), ErrorCode::kCorrupt);
  EXPECT_EQ(parse_etcd_put_if("yes").status().code(), ErrorCode::kCorrupt);
  EXPECT_EQ(parse_etcd_done("").code(), ErrorCode::kCorrupt);
  EXPECT_THAT(parse_etcd_done("\x1b[2J" + std::string(200, 'x')).message(), HasSubstr("\"?[2Jxxx"));
  for (size_t size = 0; size < kFound.size(); ++size) {
    EXPECT_FALSE(parse_etcd_range(kFound.substr(0, size), "a/b").ok()) << size;
  }
}

TEST(EtcdMessages, NamesErrors) {
  struct Case {
    int64_t http_code;
    const char* body;
    ErrorCode code;
    const char* text;
  };
  for (const Case& c : {
           Case{503, R"({"error":"etcdserver: no leader","code":14})", ErrorCode::kUnavailable, "no leader"},
           Case{504, R"({"error":"context deadline exceeded","code":4})", ErrorCode::kUnavailable, "deadline"},
           Case{429, R"({"error":"etcdserver: mvcc: database space exceeded","code":8})", ErrorCode::kExhausted,
                "space"},
           Case{400, R"({"error":"etcdserver: request is too large","code":3})", ErrorCode::kInvalid, "too large"},
           Case{400, R"({"error":7,"code":3})", ErrorCode::kInvalid, "HTTP code 400"},
           Case{404, "Not Found\n", ErrorCode::kInvalid, "HTTP code 404, \"Not Found?\"; it needs the v3 API"},
           Case{502, "<html>", ErrorCode::kUnavailable, "HTTP code 502, \"<html>\""},
       }) {
    const Status status = etcd_error(c.http_code, c.body);
    EXPECT_EQ(status.code(), c.code) << c.body;
    EXPECT_THAT(status.message(), HasSubstr(c.text));
  }
}

}  // namespace
}  // namespace colossus
