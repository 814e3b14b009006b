"""The operations of the dispatch service."""

from __future__ import annotations

from evflex.client.operations import Operation
from evflex.dispatch.v1 import dispatch_service_pb2 as pb

DISPATCH_SERVICE = "evflex.dispatch.v1.DispatchService"

CREATE_PORTFOLIO = Operation(
    DISPATCH_SERVICE, "CreatePortfolio", pb.CreatePortfolioRequest, pb.CreatePortfolioResponse, 600.0
)
UPDATE_PORTFOLIO = Operation(
    DISPATCH_SERVICE, "UpdatePortfolio", pb.UpdatePortfolioRequest, pb.UpdatePortfolioResponse, 600.0
)
GET_PORTFOLIO = Operation(DISPATCH_SERVICE, "GetPortfolio", pb.GetPortfolioRequest, pb.GetPortfolioResponse, 10.0)
LIST_PORTFOLIOS = Operation(
    DISPATCH_SERVICE, "ListPortfolios", pb.ListPortfoliosRequest, pb.ListPortfoliosResponse, 10.0
)
DELETE_PORTFOLIO = Operation(
    DISPATCH_SERVICE, "DeletePortfolio", pb.DeletePortfolioRequest, pb.DeletePortfolioResponse, 10.0
)
PLAN_PORTFOLIO = Operation(DISPATCH_SERVICE, "PlanPortfolio", pb.PlanPortfolioRequest, pb.PlanPortfolioResponse, 600.0)
GET_PLAN = Operation(DISPATCH_SERVICE, "GetPlan", pb.GetPlanRequest, pb.GetPlanResponse, 600.0)
LIST_PLANS = Operation(DISPATCH_SERVICE, "ListPlans", pb.ListPlansRequest, pb.ListPlansResponse, 10.0)
DELETE_PLAN = Operation(DISPATCH_SERVICE, "DeletePlan", pb.DeletePlanRequest, pb.DeletePlanResponse, 10.0)
LIST_PRODUCTS = Operation(DISPATCH_SERVICE, "ListProducts", pb.ListProductsRequest, pb.ListProductsResponse, 10.0)
