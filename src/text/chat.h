// The chat format: how a conversation becomes token ids. docs/formats.md describes it.
//
//   <|bos|><|system|>You are brief.<|end|><|user|>Hello<|end|><|assistant|>Hi.<|end|>
//
// The markers are special tokens and only this file writes them: a user who types "<|end|>" gets ordinary text.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "text/tokenizer.h"

namespace colossus {

inline constexpr std::string_view kBosToken = "<|bos|>";  // begins a conversation, and a document in pre-training
inline constexpr std::string_view kEndToken = "<|end|>";  // ends every message

enum class ChatRole { kSystem, kUser, kAssistant };
const char* chat_role_name(ChatRole role);  // "system", "user", "assistant"

struct ChatMessage {
  ChatRole role = ChatRole::kUser;
  std::string content;  // any bytes
};

// The five special tokens of the format: what a tokenizer for chat is trained with.
std::vector<std::string> chat_special_tokens();

class ChatFormat {
 public:
  // Fails, naming them, where the tokenizer lacks tokens of the format. Keeps a pointer: the tokenizer must outlive
  // this.
  static Result<ChatFormat> create(const Tokenizer& tokenizer);

  // Appends one message. In training only `learned` (if given, as long as `out`) positions count: what the assistant
  // says and the end token after it.
  Status append_message(const ChatMessage& message, std::vector<int32_t>& out,
                        std::vector<bool>* learned = nullptr) const;
  // A whole conversation with the leading <|bos|>; with open_reply it ends in <|assistant|>, ready for the model to
  // answer.
  Result<std::vector<int32_t>> render(const std::vector<ChatMessage>& messages, bool open_reply) const;

  int32_t bos() const { return bos_; }
  int32_t end() const { return end_; }
  int32_t role(ChatRole role) const { return roles_[static_cast<size_t>(role)]; }
  // Generation of a reply stops at any of these: its end, or a marker that no reply may hold.
  std::vector<int32_t> stop_ids() const { return {end_, bos_, roles_[0], roles_[1], roles_[2]}; }

 private:
  explicit ChatFormat(const Tokenizer& tokenizer) : tokenizer_(&tokenizer) {}

  const Tokenizer* tokenizer_;
  int32_t bos_ = -1;
  int32_t end_ = -1;
  std::array<int32_t, 3> roles_{};
};

}  // namespace colossus
