from support.system_bus import bus

__all__ = ["bus"]
