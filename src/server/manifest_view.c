/*
 * MANIFEST: the node's state at one entry, without the records. The raft thread copies it between
 * two entries; the answer comes back through the front's mailbox.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/container.h"
#include "quorlog.pb-c.h"
#include "raft_fsm/manifest.h"
#include "server/api.h"
#include "server/front.h"

struct manifest_view {
    struct request request;
    struct front *front;
    struct group_capture capture; /* the group's until it is captured */
};

static void on_captured(struct group_capture *capture)
{
    front_captured(CONTAINER_OF(capture, struct manifest_view, capture)->front, capture);
}

static void reply(struct manifest_view *self)
{
    Quorlog__ManifestReply message = QUORLOG__MANIFEST_REPLY__INIT;
    struct node *node = self->front->node;

    message.cluster_id = node->identity.cluster_id;
    message.node_id = node->identity.node_id;
    message.index = self->capture.snapshot.index;
    message.term = self->capture.snapshot.term;
    request_reply(&self->request, QUORLOG__FRAME_TYPE__FRAME_MANIFEST_REPLY, &message.base,
                  &self->capture.snapshot.manifest);
}

void manifest_captured(struct group_capture *capture)
{
    struct manifest_view *self = CONTAINER_OF(capture, struct manifest_view, capture);

    if (self->request.session != NULL && capture->err == ERR_OK) {
        reply(self);
    } else if (self->request.session != NULL) {
        request_fail_plain(&self->request, capture->err, "tell the state of this node");
    }
    snapshot_fini(&capture->snapshot);
    free(self);
}

/* The group still answers; whoever asked is gone, or is told that the node stops. */
static void on_cancel(struct request *request, enum err err)
{
    if (err == ERR_SHUTDOWN) {
        request_fail_plain(request, err, "tell the state of this node");
    }
    request_end(request);
}

void api_manifest(struct session *session, const struct frame *frame)
{
    struct front *front = session_front(session);
    struct manifest_view *self = calloc(1, sizeof *self);
    struct failure failure;
    enum err err = ERR_NOMEM;

    ASSERT(frame->type == QUORLOG__FRAME_TYPE__FRAME_MANIFEST);
    if (self != NULL) {
        self->front = front;
        self->capture.done = on_captured;
        self->request.cancel = on_cancel;
        request_begin(&self->request, session, frame, sizeof *self);
        err = group_capture(front->node->group, &self->capture);
    }
    if (err == ERR_OK) {
        return;
    }
    (void)failure_set(&failure, err, "tell the state of this node: %s", err_text(err));
    failure.unknown = false;
    if (self == NULL) {
        api_refuse(session, frame, &failure);
    } else {
        request_fail(&self->request, &failure);
        free(self);
    }
}
