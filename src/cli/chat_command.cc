#include "cli/chat_command.h"

#include <fmt/format.h>

#include <cstdio>
#include <iostream>

#include "cli/exit_code.h"
#include "cli/interrupt.h"
#include "cli/model_arguments.h"
#include "cli/terminal.h"
#include "infer/generate.h"
#include "text/chat.h"

namespace colossus {
namespace {

struct ChatArguments {
  ModelArguments model;
  std::string system;
  int64_t max_tokens = 400;
  bool complete = false;
};

// A conversation over one decode session. A model whose tokenizer has the chat tokens answers messages; any other model
// goes on with the text so far, which is all a pre-trained one can do.
class Conversation {
 public:
  Conversation(OpenModel& open, const ChatArguments& arguments) : open_(open), arguments_(arguments) {}

  bool is_chat() const { return chat_.has_value(); }

  Status begin() {
    open_.session->truncate(0, 0);
    pending_.clear();
    if (!arguments_.complete && !chat_)
      if (auto chat = ChatFormat::create(open_.model.tokenizer); chat.ok()) chat_.emplace(std::move(*chat));
    if (!chat_) return ok_status();
    pending_.push_back(chat_->bos());
    return arguments_.system.empty() ? ok_status()
                                     : chat_->append_message({ChatRole::kSystem, arguments_.system}, pending_);
  }

  Status answer(const std::string& line) {
    GenerateOptions options{
        .sampler = arguments_.model.sampler, .max_tokens = arguments_.max_tokens, .stop_ids = {}, .stop_strings = {}};
    options.sampler.seed += turn_++;
    if (chat_) {
      RETURN_IF_ERROR(chat_->append_message({ChatRole::kUser, line}, pending_));
      pending_.push_back(chat_->role(ChatRole::kAssistant));
      options.stop_ids = chat_->stop_ids();
    } else {
      // What begins a text is said once.
      const bool begins = open_.session->length(0) == 0 && open_.model.bounds.add_begin;
      if (begins) pending_ = open_.model.bounds.begin;
      RETURN_IF_ERROR(open_.model.tokenizer.encode(line, pending_));
      options.stop_ids = open_.model.bounds.end;
      std::fputs(line.c_str(), stdout);
    }
    RETURN_IF_ERROR(make_room());
    const InterruptScope interrupt("");
    const std::vector<int32_t> prompts[] = {std::exchange(pending_, {})};
    ASSIGN_OR_RETURN(const auto generations, generate(
                                                 *open_.session, open_.model.tokenizer, prompts, options,
                                                 [](int64_t, std::string_view text) {
                                                   std::fwrite(text.data(), 1, text.size(), stdout);
                                                   std::fflush(stdout);
                                                 },
                                                 &interrupt.requested()));
    std::fputs(generations.front().reason == EndReason::kContextFull ? " [the context is full]\n" : "\n", stdout);
    // The last token sampled, and the marker that ended the message, are not in the cache yet.
    if (chat_) pending_.push_back(chat_->end());
    return ok_status();
  }

 private:
  // A conversation longer than the context starts over from the newest message.
  Status make_room() {
    const int64_t needed = open_.session->length(0) + static_cast<int64_t>(pending_.size()) + 1;
    if (needed < open_.session->context()) return ok_status();
    std::fprintf(stderr, "[the context of %lld tokens is full: what was said before is forgotten]\n",
                 static_cast<long long>(open_.session->context()));
    open_.session->truncate(0, 0);
    const auto room = static_cast<size_t>(std::max<int64_t>(1, open_.session->context() / 2));
    if (pending_.size() > room) pending_.erase(pending_.begin(), pending_.end() - static_cast<int64_t>(room));
    return ok_status();
  }

  OpenModel& open_;
  const ChatArguments& arguments_;
  std::optional<ChatFormat> chat_;
  std::vector<int32_t> pending_;  // said, but not fed to the model yet
  int64_t turn_ = 0;
};

Status run_chat(const ChatArguments& arguments) {
  ASSIGN_OR_RETURN(OpenModel open, open_model(arguments.model, 1));
  Conversation conversation(open, arguments);
  RETURN_IF_ERROR(conversation.begin());
  const bool interactive = query_terminal(0).interactive;
  if (interactive)
    std::fprintf(stderr, "%s, step %lld. %s /reset starts over, /quit or Ctrl-D leaves, Ctrl-C stops a reply.\n",
                 open.model.path.c_str(), static_cast<long long>(open.model.step),
                 conversation.is_chat() ? "Say something." : "A pre-trained model: it goes on with what you type.");
  std::string line;
  while (true) {
    if (interactive) std::fputs("> ", stderr);
    if (!std::getline(std::cin, line)) break;
    if (line == "/quit" || line == "/exit") break;
    if (line == "/reset") {
      RETURN_IF_ERROR(conversation.begin());
      continue;
    }
    if (line.empty()) continue;
    const Status answered = conversation.answer(line);
    if (!answered.ok())
      std::fprintf(stderr, "%s\n", answered.message().c_str());  // a character the vocabulary lacks: say it and go on
  }
  if (interactive) std::fputs("\n", stderr);
  return ok_status();
}

}  // namespace

void add_chat_command(Command root) {
  auto arguments = std::make_shared<ChatArguments>();
  Command command = root.add_command("chat", "Talk to a trained model");
  add_model_options(command, arguments->model);
  command.option("--system", arguments->system, "what the model is told first");
  command.option("--max-tokens", arguments->max_tokens, "longest reply, in tokens", {.min = 1});
  command.flag("--complete", arguments->complete, "go on with the text instead of answering messages");
  command.run([arguments] { return run_chat(*arguments); });
}

}  // namespace colossus
