"""The tools of a workspace, in the order in which they are listed."""

from __future__ import annotations

from dexorder_agent.tools.context import ContextTools
from dexorder_agent.tools.conversation import ConversationTools
from dexorder_agent.tools.environment import EnvironmentTools
from dexorder_agent.tools.files import FileTools
from dexorder_agent.tools.history import HistoryTools
from dexorder_agent.tools.indicators import IndicatorTools
from dexorder_agent.tools.strategies import StrategyTools
from dexorder_agent.tools.toolbox import Toolbox
from dexorder_agent.workspace import Workspace


def toolbox(workspace: Workspace) -> Toolbox:
    """Every tool."""
    return Toolbox(
        IndicatorTools(workspace),
        StrategyTools(workspace),
        ContextTools(workspace),
        ConversationTools(workspace),
        FileTools(workspace),
        HistoryTools(workspace),
        EnvironmentTools(workspace),
    )
