from support.gpu_fixtures import driver, fakenvml

__all__ = ["driver", "fakenvml"]
