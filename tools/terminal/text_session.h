// The session of `run -i` without a chat template: the user's lines and the model's text make one
// growing text.
#pragma once

#include <cstdint>
#include <string>

#include "tools/terminal/session.h"

namespace thermocline {

class TextSession : public Session {
 public:
  TextSession(Generator& generator, int64_t max_tokens, Print text, Print notes);

 protected:
  const char* greeting() const override;
  const char* help() const override;
  const char* context_advice() const override { return "/reset starts a new text"; }
  bool can_go_on() const override { return generator_.can_go_on(); }
  void Say(const std::string& line) override;
  bool Obey(const std::string& command, const std::string& argument, LineReader& lines) override;

 private:
  Generator& generator_;
  int64_t max_tokens_;
};

}  // namespace thermocline
