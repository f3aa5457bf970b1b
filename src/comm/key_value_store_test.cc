#include "comm/key_value_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fmt/format.h>

#include <chrono>
#include <fstream>
#include <thread>

#include "base/clock.h"
#include "comm/testing.h"
#include "comm/testing_etcd.h"
#include "io/testing.h"

namespace colossus {
namespace {

using ::testing::HasSubstr;

// Opens the same store several times, as several processes would; none where the machine lacks what it needs.
struct StoreKind {
  const char* name;
  const char* needs;
  std::function<std::vector<std::unique_ptr<KeyValueStore>>(const std::string& directory, int count)> open;
};

class KeyValueStoreContract : public testing::TestWithParam<StoreKind> {
 protected:
  void SetUp() override {
    if (stores_.empty()) GTEST_SKIP() << "needs " << GetParam().needs;
  }
  KeyValueStore& store() { return *stores_.front(); }

  const TemporaryDirectory directory_;
  const std::vector<std::unique_ptr<KeyValueStore>> stores_ = GetParam().open(directory_ / "store", 4);
};

// A memory store that looks like four.
class Shared final : public KeyValueStore {
 public:
  explicit Shared(std::shared_ptr<KeyValueStore> store) : store_(std::move(store)) {}
  Status set(const std::string& key, const std::string& value) override { return store_->set(key, value); }
  Result<std::optional<std::string>> get(const std::string& key) override { return store_->get(key); }
  Result<bool> compare_and_set(const std::string& key, const std::optional<std::string>& expected,
                               const std::string& value) override {
    return store_->compare_and_set(key, expected, value);
  }
  Status remove(const std::string& key) override { return store_->remove(key); }

 private:
  std::shared_ptr<KeyValueStore> store_;
};

INSTANTIATE_TEST_SUITE_P(Stores, KeyValueStoreContract,
                         testing::Values(StoreKind{"Memory", "",
                                                   [](const std::string&, int count) {
                                                     std::shared_ptr<KeyValueStore> one = make_memory_store();
                                                     std::vector<std::unique_ptr<KeyValueStore>> stores;
                                                     for (int i = 0; i < count; ++i) {
                                                       stores.push_back(std::make_unique<Shared>(one));
                                                     }
                                                     return stores;
                                                   }},
                                         StoreKind{"Directory", "",
                                                   [](const std::string& directory, int count) {
                                                     std::vector<std::unique_ptr<KeyValueStore>> stores;
                                                     for (int i = 0; i < count; ++i) {
                                                       stores.push_back(open_directory_store(directory).value());
                                                     }
                                                     return stores;
                                                   }},
                                         StoreKind{"Etcd", "etcd (Debian: etcd-server)",
                                                   [](const std::string&, int count) {
                                                     std::vector<std::unique_ptr<KeyValueStore>> stores;
                                                     if (!EtcdServer::installed()) return stores;
                                                     static int num_opened = 0;
                                                     const std::string prefix = fmt::format("test-{}", num_opened++);
                                                     for (int i = 0; i < count; ++i) {
                                                       stores.push_back(
                                                           open_etcd_store({.endpoints = {shared_etcd().endpoint()},
                                                                            .prefix = prefix,
                                                                            .call_seconds = 60})
                                                               .value());
                                                     }
                                                     return stores;
                                                   }}),
                         [](const auto& test) { return test.param.name; });

TEST_P(KeyValueStoreContract, HoldsValues) {
  EXPECT_EQ(store().get("run/rank.0").value(), std::nullopt);
  EXPECT_TRUE(store().set("run/rank.0", "here").ok());
  EXPECT_EQ(stores_[1]->get("run/rank.0").value(), "here");
  EXPECT_TRUE(stores_[2]->set("run/rank.0", "").ok());
  EXPECT_EQ(store().get("run/rank.0").value(), "");
  // A key may be the beginning of another.
  EXPECT_TRUE(store().set("run", "a").ok());
  EXPECT_TRUE(store().set("run/rank.0/x", std::string("\0\n\xff", 3)).ok());
  EXPECT_EQ(store().get("run").value(), "a");
  EXPECT_EQ(store().get("run/rank.0/x").value(), std::string("\0\n\xff", 3));
  EXPECT_TRUE(stores_[1]->remove("run").ok());
  EXPECT_TRUE(store().remove("run").ok());
  EXPECT_EQ(store().get("run").value(), std::nullopt);
  EXPECT_EQ(store().get("run/rank.0/x").value().has_value(), true);
}

TEST_P(KeyValueStoreContract, ComparesBeforeItSets) {
  EXPECT_FALSE(store().compare_and_set("leader", "1", "2").value());
  EXPECT_EQ(store().get("leader").value(), std::nullopt);
  EXPECT_TRUE(store().compare_and_set("leader", std::nullopt, "1").value());
  EXPECT_FALSE(stores_[1]->compare_and_set("leader", std::nullopt, "2").value());
  EXPECT_FALSE(stores_[1]->compare_and_set("leader", "", "2").value());
  EXPECT_TRUE(stores_[1]->compare_and_set("leader", "1", "2").value());
  EXPECT_EQ(store().get("leader").value(), "2");
}

TEST_P(KeyValueStoreContract, RefusesBadKeysAndLongValues) {
  for (const std::string key : {"", "/", "a/", "/a", "a//b", "..", "a/../b", ".", "a b", "a~lock", "a+b", "ä", "a\n"}) {
    EXPECT_EQ(store().set(key, "x").code(), ErrorCode::kInvalid) << key;
    EXPECT_EQ(store().get(key).status().code(), ErrorCode::kInvalid) << key;
    EXPECT_EQ(store().compare_and_set(key, std::nullopt, "x").status().code(), ErrorCode::kInvalid) << key;
    EXPECT_EQ(store().remove(key).code(), ErrorCode::kInvalid) << key;
  }
  EXPECT_EQ(store().set(std::string(201, 'a'), "x").code(), ErrorCode::kInvalid);
  EXPECT_TRUE(store().set(std::string(200, 'a'), "x").ok());
  const std::string longest(static_cast<size_t>(KeyValueStore::kMaxValueBytes), 'v');
  EXPECT_TRUE(store().set("long", longest).ok());
  EXPECT_EQ(store().get("long").value(), longest);
  EXPECT_EQ(store().set("long", longest + "v").code(), ErrorCode::kInvalid);
  EXPECT_EQ(store().compare_and_set("long", longest, longest + "v").status().code(), ErrorCode::kInvalid);
  EXPECT_EQ(store().get("long").value(), longest);
}

TEST_P(KeyValueStoreContract, LosesNoCount) {
  constexpr int kThreads = 8, kCounts = 10;
  in_threads(kThreads, [&](int index) {
    KeyValueStore& store = *stores_[static_cast<size_t>(index % 4)];
    for (int counted = 0; counted < kCounts;) {
      const std::optional<std::string> before = store.get("counter").value();
      const int next = before ? std::stoi(*before) + 1 : 1;
      if (store.compare_and_set("counter", before, std::to_string(next)).value()) ++counted;
    }
  });
  EXPECT_EQ(store().get("counter").value(), std::to_string(kThreads * kCounts));
}

TEST_P(KeyValueStoreContract, GivesWholeValuesWhileTheyChange) {
  std::atomic<bool> stop = false;
  std::thread writer([&] {
    for (int i = 0; !stop; ++i) EXPECT_TRUE(stores_[1]->set("value", std::string(10'000, 'a' + i % 26)).ok());
  });
  for (int i = 0; i < 200; ++i) {
    const Result<std::optional<std::string>> value = store().get("value");
    ASSERT_TRUE(value.ok()) << value.status().message();
    if (*value) {
      EXPECT_EQ(**value, std::string(10'000, (**value)[0]));
    }
  }
  stop = true;
  writer.join();
}

TEST_P(KeyValueStoreContract, WaitsForAKey) {
  const Result<std::string> missing = store().wait_for("group/rank.3", 0.02);
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.status().code(), ErrorCode::kUnavailable);
  EXPECT_THAT(missing.status().message(), HasSubstr("\"group/rank.3\" was not set within 0.02 s"));
  std::thread setter([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    EXPECT_TRUE(stores_[1]->set("group/rank.3", "here").ok());
  });
  EXPECT_EQ(store().wait_for("group/rank.3", 20).value(), "here");
  setter.join();
  EXPECT_EQ(store().wait_for("group/rank.3", 0).value(), "here");
}

void write_text(const std::string& path, const std::string& text) { std::ofstream(path, std::ios::binary) << text; }

TEST(DirectoryStore, TakesOverTheLockOfAHolderThatDied) {
  const TemporaryDirectory directory;
  write_text(directory / "counter~lock", "a.dead.process");
  // Several want it at once: each gets it in turn, none loses a count.
  in_threads(4, [&](int) {
    const auto store = open_directory_store(directory.path(), 0.2).value();
    for (bool counted = false; !counted;) {
      const std::optional<std::string> before = store->get("counter").value();
      const int next = before ? std::stoi(*before) + 1 : 1;
      const Result<bool> set = store->compare_and_set("counter", before, std::to_string(next));
      // On a busy machine a write can outlast the short lock: it must then have changed nothing.
      counted = set.ok() && *set;
    }
  });
  EXPECT_EQ(open_directory_store(directory.path()).value()->get("counter").value(), "4");
}

TEST(DirectoryStore, WaitsForALockThatIsNotOldEnough) {
  const TemporaryDirectory directory;
  write_text(directory / "key~lock", "someone");
  const double began = monotonic_seconds();
  EXPECT_TRUE(open_directory_store(directory.path(), 0.2).value()->set("key", "x").ok());
  EXPECT_GE(monotonic_seconds() - began, 0.2);
}

TEST(DirectoryStore, TakesOverFromABreakerThatDied) {
  const TemporaryDirectory directory;
  write_text(directory / "key~lock", "a.dead.process");
  write_text(directory / "key~lock~break", "another.dead.process");
  EXPECT_TRUE(open_directory_store(directory.path(), 0.1).value()->set("key", "x").ok());
}

TEST(DirectoryStore, LeavesNothingBehind) {
  const TemporaryDirectory directory;
  const auto store = open_directory_store(directory.path()).value();
  EXPECT_TRUE(store->set("a/b", "1").ok());
  EXPECT_TRUE(store->compare_and_set("a/b", "1", "2").value());
  EXPECT_FALSE(store->compare_and_set("a/b", "1", "3").value());
  ASSERT_EQ(local_files().list(directory.path()).value().size(), 1u);
  EXPECT_TRUE(store->remove("a/b").ok());
  EXPECT_EQ(local_files().list(directory.path()).value().size(), 0u);
}

TEST(DirectoryStore, RefusesFilesThatAreNoWholeValues) {
  const TemporaryDirectory directory;
  const auto store = open_directory_store(directory.path()).value();
  ASSERT_TRUE(store->set("key", "some value").ok());
  const std::string good = read_file(local_files(), directory / "key").value();
  const auto expect_refused = [&](const std::string& bytes, ErrorCode code, const std::string& text) {
    write_text(directory / "key", bytes);
    const auto value = store->get("key");
    ASSERT_FALSE(value.ok()) << text;
    EXPECT_EQ(value.status().code(), code) << value.status().message();
    EXPECT_THAT(value.status().message(), HasSubstr(text));
    EXPECT_THAT(value.status().message(), HasSubstr(directory / "key"));
    EXPECT_FALSE(store->compare_and_set("key", std::nullopt, "x").ok());
  };
  for (size_t size = 0; size < 24; ++size) expect_refused(good.substr(0, size), ErrorCode::kCorrupt, "it was cut");
  for (size_t size = 24; size < good.size(); ++size) {
    expect_refused(good.substr(0, size), ErrorCode::kCorrupt, "of a value of 10");
  }
  expect_refused(good + "x", ErrorCode::kCorrupt, "holds 11 bytes of a value of 10");
  std::string flipped = good;
  flipped.back() ^= 1;
  expect_refused(flipped, ErrorCode::kCorrupt, "checksum");
  expect_refused("another file that is long enough", ErrorCode::kCorrupt, "not a value of this store");
  expect_refused(good + std::string(2 << 20, 'x'), ErrorCode::kInvalid, "more than");
  // A new value heals the key.
  EXPECT_TRUE(store->set("key", "new").ok());
  EXPECT_EQ(store->get("key").value(), "new");
}

TEST(DirectoryStore, NeedsADirectory) {
  const TemporaryDirectory directory;
  write_text(directory / "file", "");
  EXPECT_FALSE(open_directory_store(directory / "file").ok());
}

TEST(OpenStore, ReadsAddresses) {
  const TemporaryDirectory directory;
  ASSERT_TRUE(open_store(directory.path()).value()->set("key", "x").ok());
  EXPECT_EQ(open_store("dir:" + directory.path()).value()->get("key").value(), "x");
  for (const char* address : {"etcd://a:1", "etcd://a:1,b-2:2379", "etcd://[::1]:1,b:2/run", "etcd://a:1/runs/7"}) {
    EXPECT_TRUE(open_store(address).ok()) << address;
  }
  for (const char* address :
       {"", "here", "dir:", "dir:here", "etcd:a:1", "http://a:1", "etcd://", "etcd:///run", "etcd://a:1,",
        "etcd://a:1,,b:1", "etcd://,a:1", "etcd://a", "etcd://a:1/run/", "etcd://a:1//run", "etcd://a:1/a b"}) {
    const auto store = open_store(address);
    ASSERT_FALSE(store.ok()) << address;
    EXPECT_EQ(store.status().code(), ErrorCode::kInvalid) << address;
  }
}

}  // namespace
}  // namespace colossus
