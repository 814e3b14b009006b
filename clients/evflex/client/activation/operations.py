"""The operations of the activation service."""

from __future__ import annotations

from evflex.activation.v1 import activation_service_pb2 as pb
from evflex.client.operations import Operation

ACTIVATION_SERVICE = "evflex.activation.v1.ActivationService"

REGISTER_RESOURCES = Operation(
    ACTIVATION_SERVICE, "RegisterResources", pb.RegisterResourcesRequest, pb.RegisterResourcesResponse, 30.0
)
GET_RESOURCE = Operation(ACTIVATION_SERVICE, "GetResource", pb.GetResourceRequest, pb.GetResourceResponse, 10.0)
LIST_RESOURCES = Operation(ACTIVATION_SERVICE, "ListResources", pb.ListResourcesRequest, pb.ListResourcesResponse, 10.0)
LINK_ALIASES = Operation(ACTIVATION_SERVICE, "LinkAliases", pb.LinkAliasesRequest, pb.LinkAliasesResponse, 10.0)
UNLINK_ALIASES = Operation(ACTIVATION_SERVICE, "UnlinkAliases", pb.UnlinkAliasesRequest, pb.UnlinkAliasesResponse, 10.0)
OPEN_SESSION = Operation(ACTIVATION_SERVICE, "OpenSession", pb.OpenSessionRequest, pb.OpenSessionResponse, 10.0)
CLOSE_SESSION = Operation(ACTIVATION_SERVICE, "CloseSession", pb.CloseSessionRequest, pb.CloseSessionResponse, 10.0)
LIST_SESSIONS = Operation(ACTIVATION_SERVICE, "ListSessions", pb.ListSessionsRequest, pb.ListSessionsResponse, 10.0)
CHECK_COMMITMENTS = Operation(
    ACTIVATION_SERVICE, "CheckCommitments", pb.CheckCommitmentsRequest, pb.CheckCommitmentsResponse, 600.0
)
HOLD_COMMITMENTS = Operation(
    ACTIVATION_SERVICE, "HoldCommitments", pb.HoldCommitmentsRequest, pb.HoldCommitmentsResponse, 10.0
)
CONFIRM_COMMITMENTS = Operation(
    ACTIVATION_SERVICE, "ConfirmCommitments", pb.ConfirmCommitmentsRequest, pb.ConfirmCommitmentsResponse, 10.0
)
ACTIVATE_COMMITMENTS = Operation(
    ACTIVATION_SERVICE, "ActivateCommitments", pb.ActivateCommitmentsRequest, pb.ActivateCommitmentsResponse, 10.0
)
COMPLETE_COMMITMENTS = Operation(
    ACTIVATION_SERVICE, "CompleteCommitments", pb.CompleteCommitmentsRequest, pb.CompleteCommitmentsResponse, 10.0
)
SETTLE_COMMITMENTS = Operation(
    ACTIVATION_SERVICE, "SettleCommitments", pb.SettleCommitmentsRequest, pb.SettleCommitmentsResponse, 10.0
)
RELEASE_COMMITMENTS = Operation(
    ACTIVATION_SERVICE, "ReleaseCommitments", pb.ReleaseCommitmentsRequest, pb.ReleaseCommitmentsResponse, 10.0
)
REALLOCATE_COMMITMENT = Operation(
    ACTIVATION_SERVICE, "ReallocateCommitment", pb.ReallocateCommitmentRequest, pb.ReallocateCommitmentResponse, 10.0
)
GET_COMMITMENT = Operation(ACTIVATION_SERVICE, "GetCommitment", pb.GetCommitmentRequest, pb.GetCommitmentResponse, 10.0)
LIST_COMMITMENTS = Operation(
    ACTIVATION_SERVICE, "ListCommitments", pb.ListCommitmentsRequest, pb.ListCommitmentsResponse, 10.0
)
WATCH_CONFLICTS = Operation(
    ACTIVATION_SERVICE, "WatchConflicts", pb.WatchConflictsRequest, pb.WatchConflictsResponse, None
)
GET_ACTIVATION_POLICY = Operation(
    ACTIVATION_SERVICE, "GetActivationPolicy", pb.GetActivationPolicyRequest, pb.GetActivationPolicyResponse, 10.0
)
LIST_ACTIVATION_POLICIES = Operation(
    ACTIVATION_SERVICE,
    "ListActivationPolicies",
    pb.ListActivationPoliciesRequest,
    pb.ListActivationPoliciesResponse,
    10.0,
)
DELETE_ACTIVATION_POLICY = Operation(
    ACTIVATION_SERVICE,
    "DeleteActivationPolicy",
    pb.DeleteActivationPolicyRequest,
    pb.DeleteActivationPolicyResponse,
    10.0,
)
SET_ACTIVATION_POLICY = Operation(
    ACTIVATION_SERVICE, "SetActivationPolicy", pb.SetActivationPolicyRequest, pb.SetActivationPolicyResponse, 10.0
)
EXPORT_AUDIT = Operation(ACTIVATION_SERVICE, "ExportAudit", pb.ExportAuditRequest, pb.ExportAuditResponse, 600.0)
