"""The MCP agent of a Dexorder workspace: tools and resources over a user's git repository."""

__version__ = "0.1.0"
