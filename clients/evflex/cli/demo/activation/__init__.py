"""The chapter `activation`: one car whose flexibility two aggregators sell, and three remedies."""
