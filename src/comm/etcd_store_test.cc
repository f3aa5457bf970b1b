// What the contract of key_value_store_test.cc does not ask: servers that die, are silent, or are no etcd.
#include "comm/etcd_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/base64.h"
#include "comm/testing.h"
#include "comm/testing_etcd.h"

namespace colossus {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::unique_ptr<KeyValueStore> open_at(std::vector<std::string> endpoints, double call_seconds = 60) {
  return open_etcd_store({.endpoints = std::move(endpoints), .prefix = "test", .call_seconds = call_seconds}).value();
}

void expect_error(const Status& status, ErrorCode code, const std::string& text) {
  ASSERT_FALSE(status.ok()) << text;
  EXPECT_EQ(status.code(), code) << status.message();
  EXPECT_THAT(status.message(), HasSubstr(text));
}

const std::string kNothing = FakeServer::http(R"({"header":{}})");

TEST(EtcdStore, NeedsEndpoints) {
  for (const std::string endpoint :
       {"", "node", "node:", ":2379", "node:0", "node:65536", "node:2379x", "no de:2379", "http://node:2379",
        "node:2379/x", "a@node:2379", "[]:2379", "[::1:2379", "n\xc3\xb6:1"}) {
    expect_error(open_etcd_store({.endpoints = {"node-0:2379", endpoint}}).status(), ErrorCode::kInvalid, "host:port");
  }
  EXPECT_TRUE(open_etcd_store({.endpoints = {"[::1]:2379", "node-0.rack:1", "10.0.0.1:65535"}}).ok());
  expect_error(open_etcd_store({}).status(), ErrorCode::kInvalid, "at least one endpoint");
  expect_error(open_etcd_store({.endpoints = {"n:1"}, .prefix = "a/"}).status(), ErrorCode::kInvalid, "not a key");
  expect_error(open_etcd_store({.endpoints = {"n:1"}, .call_seconds = 0}).status(), ErrorCode::kInvalid, "at most 0 s");
}

TEST(EtcdStore, NamesWhoDoesNotAnswer) {
  const LoopbackSocket nobody, nobody_either;  // bound, and no one listens
  const auto store = open_at({nobody.endpoint(), nobody_either.endpoint()});
  const Status statuses[] = {store->set("key", "x"), store->get("key").status(), store->remove("key"),
                             store->compare_and_set("key", std::nullopt, "x").status()};
  for (const Status& status : statuses) {
    expect_error(status, ErrorCode::kUnavailable, nobody.endpoint());
    expect_error(status, ErrorCode::kUnavailable, nobody_either.endpoint());
    expect_error(status, ErrorCode::kUnavailable, "Connection refused");
    EXPECT_THAT(status.message(), Not(HasSubstr("may be done")));
  }
}

TEST(EtcdStore, DoesNotWaitForASilentServerForEver) {
  const FakeServer silent("");
  const auto store = open_at({silent.endpoint()}, 0.2);
  expect_error(store->get("key").status(), ErrorCode::kUnavailable, silent.endpoint() + ": Operation timed out");
  expect_error(store->set("key", "x"), ErrorCode::kUnavailable, "may be done, now or later");
}

TEST(EtcdStore, ReadsElsewhereAndNeverRepeatsAChange) {
  const LoopbackSocket nobody;
  const FakeServer silent(""), good(kNothing);
  const auto store = open_at({nobody.endpoint(), silent.endpoint(), good.endpoint()}, 1);
  EXPECT_EQ(store->get("key").value(), std::nullopt);
  EXPECT_EQ(silent.num_requests(), 1);
  EXPECT_EQ(good.num_requests(), 1);
  // The one that answered is asked first from now on.
  EXPECT_TRUE(store->set("key", "x").ok());
  EXPECT_EQ(silent.num_requests(), 1);

  const auto other = open_at({nobody.endpoint(), silent.endpoint(), good.endpoint()}, 0.2);
  const int before = good.num_requests();
  expect_error(other->compare_and_set("key", "x", "y").status(), ErrorCode::kUnavailable, "may be done");
  EXPECT_EQ(good.num_requests(), before);
  EXPECT_FALSE(other->compare_and_set("key", "x", "y").value());
  EXPECT_EQ(silent.num_requests(), 2);
}

// curl by itself sends again what it sent over a connection that was kept from an earlier call and then ends.
TEST(EtcdStore, SendsAChangeOnceThoughConnectionsEnd) {
  const FakeServer server(kNothing, /*waits=*/true);
  const auto store = open_at({server.endpoint()});
  for (int i = 0; i < 3; ++i) EXPECT_FALSE(store->compare_and_set("key", std::nullopt, "x").value());
  EXPECT_EQ(server.num_requests(), 3);
  // Reads may be repeated, and are.
  for (int i = 0; i < 3; ++i) EXPECT_EQ(store->get("key").value(), std::nullopt);
  EXPECT_GT(server.num_requests(), 6);

  const FakeServer hangs_up("HTTP/1.1 ");
  const auto broken = open_at({hangs_up.endpoint()});
  expect_error(broken->compare_and_set("key", std::nullopt, "x").status(), ErrorCode::kUnavailable, "may be done");
  EXPECT_EQ(hangs_up.num_requests(), 1);
}

TEST(EtcdStore, RefusesWrongAnswers) {
  const auto get = [](const std::string& answer) {
    const FakeServer server(answer);
    const Status status = open_at({server.endpoint()})->get("key").status();
    EXPECT_THAT(status.message(), HasSubstr("etcd at " + server.endpoint()));
    return status;
  };
  expect_error(get(FakeServer::http("{}")), ErrorCode::kCorrupt, "no header");
  expect_error(get(FakeServer::http("<html>")), ErrorCode::kCorrupt, "no JSON object");
  expect_error(get(FakeServer::http(R"({"error":"etcdserver: no leader","code":14})", "503 Service Unavailable")),
               ErrorCode::kUnavailable, "no leader");
  expect_error(get(FakeServer::http("Not Found", "404 Not Found")), ErrorCode::kInvalid, "HTTP code 404");
  expect_error(get("SSH-2.0-OpenSSH_9.2\r\n"), ErrorCode::kUnavailable, "");
  expect_error(get(kNothing.substr(0, kNothing.size() - 2)), ErrorCode::kUnavailable, "");
  expect_error(get("HTTP/1.1 200 OK\r\nContent-Length: 1099511627776\r\n\r\n" + std::string(3 << 20, ' ')),
               ErrorCode::kInvalid, "answered with more than");
  // Longer than a value, and short enough to be taken.
  const std::string value = encode_base64(std::string(KeyValueStore::kMaxValueBytes + 1, 'v'));
  expect_error(get(FakeServer::http(fmt::format(
                   R"({{"header":{{}},"kvs":[{{"key":"{}","mod_revision":"1","value":"{}"}}],"count":"1"}})",
                   encode_base64("test/key"), value))),
               ErrorCode::kInvalid, "at most 1048576");
}

TEST(EtcdStore, ComparesLongValues) {
  if (!EtcdServer::installed()) GTEST_SKIP() << "needs etcd (Debian: etcd-server)";
  const auto store = open_at({shared_etcd().endpoint()});
  std::string longest(static_cast<size_t>(KeyValueStore::kMaxValueBytes), 'v');
  const std::string before = longest;
  longest.back() = 'w';
  ASSERT_TRUE(store->set("long", before).ok());
  EXPECT_FALSE(store->compare_and_set("long", longest, before).value());
  EXPECT_TRUE(store->compare_and_set("long", before, longest).value());
  EXPECT_EQ(store->get("long").value(), longest);
  EXPECT_TRUE(store->remove("long").ok());
  EXPECT_FALSE(store->compare_and_set("long", longest, before).value());
}

TEST(EtcdStore, PrefixesKeepRunsApart) {
  if (!EtcdServer::installed()) GTEST_SKIP() << "needs etcd (Debian: etcd-server)";
  const std::string address = "etcd://" + shared_etcd().endpoint();
  const auto a = open_store(address + "/runs/a").value(), b = open_store(address + "/runs/b").value();
  const auto all = open_store(address).value();
  ASSERT_TRUE(a->set("rank.0", "here").ok());
  EXPECT_EQ(b->get("rank.0").value(), std::nullopt);
  EXPECT_EQ(all->get("runs/a/rank.0").value(), "here");
  EXPECT_TRUE(b->remove("rank.0").ok());
  EXPECT_EQ(a->get("rank.0").value(), "here");
}

TEST(EtcdStore, GoesOnAfterTheServerDied) {
  if (!EtcdServer::installed()) GTEST_SKIP() << "needs etcd (Debian: etcd-server)";
  EtcdServer server;
  const auto store = open_at({server.endpoint()});
  ASSERT_TRUE(store->set("kept", "before").ok());
  for (int round = 0; round < 2; ++round) {
    server.kill();
    expect_error(store->get("kept").status(), ErrorCode::kUnavailable, server.endpoint());
    expect_error(store->set("kept", "lost"), ErrorCode::kUnavailable, server.endpoint());
    expect_error(store->wait_for("kept", 5).status(), ErrorCode::kUnavailable, server.endpoint());
    ASSERT_TRUE(server.start());
    EXPECT_EQ(store->get("kept").value(), "before");
    EXPECT_TRUE(store->compare_and_set("kept", "before", "after").value());
    EXPECT_TRUE(store->compare_and_set("kept", "after", "before").value());
  }
}

// Every count whose call said so is there, and no count is there twice.
TEST(EtcdStore, LosesNoCountWhenTheServerDies) {
  if (!EtcdServer::installed()) GTEST_SKIP() << "needs etcd (Debian: etcd-server)";
  EtcdServer server;
  std::atomic<int> num_done = 0, num_unknown = 0;
  std::atomic<bool> stop = false;
  std::thread counters([&] {
    in_threads(4, [&](int) {
      const auto store = open_at({server.endpoint()});
      while (!stop) {
        const auto before = store->get("counter");
        if (!before.ok()) continue;
        const std::string next = std::to_string(*before ? std::stoi(**before) + 1 : 1);
        const Result<bool> set = store->compare_and_set("counter", *before, next);
        if (set.ok()) {
          num_done += *set ? 1 : 0;
        } else {
          EXPECT_EQ(set.status().code(), ErrorCode::kUnavailable) << set.status().message();
          ++num_unknown;
        }
      }
    });
  });
  for (int round = 0; round < 3; ++round) {
    const int seen = num_done;
    while (num_done < seen + 10) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    server.kill();
    EXPECT_TRUE(server.start());
  }
  stop = true;
  counters.join();
  const int count = std::stoi(*open_at({server.endpoint()})->get("counter").value());
  EXPECT_GE(count, num_done);
  EXPECT_LE(count, num_done + num_unknown);
  EXPECT_GE(num_done, 30);
}

}  // namespace
}  // namespace colossus
