"""Whether the Hugging Face hub has a model for us, asked once and with little patience.

Nothing here loads torch, so that a wrong name is refused before a kernel starts.
"""

from __future__ import annotations

import threading

from oocr_lib.util.arguments import checked
from oocr_lib.util.errors import first_line

#: Seconds to wait for the hub's first answer; the library behind it would try for minutes.
SECONDS = 4.0


@checked
def unreachable(name: str) -> str:
    """One line on why the hub does not have the model ``name`` for us; empty if it answers.

    Takes ``SECONDS`` at most.
    """
    answer: list[str] = []

    def ask() -> None:
        import huggingface_hub
        import huggingface_hub.utils

        try:
            url = huggingface_hub.hf_hub_url(name, "config.json")
            response = huggingface_hub.get_session().head(
                url, timeout=SECONDS, headers=huggingface_hub.utils.build_hf_headers()
            )
            # A gated model answers 401 or 403; the library's own message then says what to do.
            answer.append("no such model there" if response.status_code == 404 else "")
        except Exception as error:  # whatever a network can do
            answer.append(first_line(error))

    # In a thread of its own, because looking up the host's name has no time limit.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(SECONDS)
    return answer[0] if answer else f"no answer within {SECONDS:.0f} seconds"
