using System.Data.Common;
using System.Text;
using Backend.Toolkit.Webhooks.Delivery;

/// <summary>What every store of webhook deliveries does. A store adds a subclass that makes it, lets time pass and connects to its database.</summary>
public abstract class WebhookDeliveryStoreConformance : IAsyncLifetime
{
    private static readonly TimeSpan Lease = TimeSpan.FromSeconds(60);
    private static readonly TimeSpan Month = TimeSpan.FromDays(30);
    private int _endpoints;

    protected IWebhookDeliveryStore Store { get; private set; } = null!;

    /// <summary>Another instance over the same database, as another node has it.</summary>
    protected abstract ValueTask<IWebhookDeliveryStore> OpenAsync();

    protected abstract ValueTask<DbConnection> ConnectAsync();

    /// <summary>Lets the store's clock pass.</summary>
    protected abstract ValueTask PassAsync(TimeSpan time);

    public virtual async ValueTask InitializeAsync()
    {
        Store = await OpenAsync();
        await Store.PrepareAsync();
    }

    public virtual ValueTask DisposeAsync() => default;

    [Fact]
    public async Task Preparing_twice_changes_nothing()
    {
        await AddEndpointAsync();

        await Store.PrepareAsync();

        (await Store.ListEndpointsAsync(null, "", 10)).Should().ContainSingle();
    }

    [Fact]
    public async Task An_event_becomes_a_delivery_for_each_subscribed_endpoint_of_its_audience_and_no_other()
    {
        string all = await AddEndpointAsync();
        string subscribed = await AddEndpointAsync(types: ["order.created", "order.paid"]);
        await AddEndpointAsync(types: ["order.create", "order"]);
        await AddEndpointAsync(audience: "other");
        await EnqueueAsync("msg_1", type: "order.paid");

        int events = await Store.FanOutAsync(10);
        IReadOnlyList<WebhookClaim> claims = await ClaimAsync();

        events.Should().Be(1);
        claims.Select(claim => claim.Endpoint.Id).Should().BeEquivalentTo([all, subscribed]);
        claims.Should().AllSatisfy(claim =>
        {
            claim.Event.Should().BeEquivalentTo(new { Id = "msg_1", Type = "order.paid", Audience = "acme", OrderKey = (string?)null, TraceParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01" });
            claim.Event.Payload.ToArray().Should().Equal(Encoding.UTF8.GetBytes("body of msg_1"));
            claim.Secrets.Should().Be("secrets");
            claim.Attempts.Should().Be(0);
            claim.Age.Should().Be(TimeSpan.Zero);
            claim.FailingFor.Should().BeNull();
        });
        (await Store.FanOutAsync(10)).Should().Be(0);
    }

    [Fact]
    public async Task What_is_rolled_back_is_never_delivered_and_what_is_committed_is()
    {
        await AddEndpointAsync();
        await using DbConnection connection = await ConnectAsync();
        await using (DbTransaction transaction = await connection.BeginTransactionAsync())
        {
            await Store.EnqueueAsync(Event("msg_1"), transaction);
            await transaction.RollbackAsync();
        }

        await using (DbTransaction transaction = await connection.BeginTransactionAsync())
        {
            await Store.EnqueueAsync(Event("msg_2"), transaction);
            await transaction.CommitAsync();
        }

        await Store.FanOutAsync(10);
        IReadOnlyList<WebhookClaim> claims = await ClaimAsync();

        claims.Select(claim => claim.Event.Id).Should().Equal("msg_2");
    }

    [Fact]
    public async Task What_is_rolled_back_to_a_savepoint_is_never_delivered()
    {
        await AddEndpointAsync();
        await using DbConnection connection = await ConnectAsync();
        await using DbTransaction transaction = await connection.BeginTransactionAsync();
        await Store.EnqueueAsync(Event("msg_1"), transaction);
        await transaction.SaveAsync("here");
        await Store.EnqueueAsync(Event("msg_2"), transaction);
        await transaction.RollbackAsync("here");
        await Store.EnqueueAsync(Event("msg_3"), transaction);
        await transaction.CommitAsync();

        await Store.FanOutAsync(10);
        IReadOnlyList<WebhookClaim> claims = await ClaimAsync();

        claims.Select(claim => claim.Event.Id).Should().Equal("msg_1", "msg_3");
    }

    [Fact]
    public async Task Nothing_is_seen_before_the_commit()
    {
        await AddEndpointAsync();
        await using DbConnection connection = await ConnectAsync();
        await using DbTransaction transaction = await connection.BeginTransactionAsync();
        await Store.EnqueueAsync(Event("msg_1"), transaction);

        int before = await CountWaitingAsync();
        await transaction.CommitAsync();
        int after = await Store.FanOutAsync(10);

        before.Should().Be(0);
        after.Should().Be(1);
    }

    [Fact]
    public async Task An_id_that_is_there_already_is_not_enqueued_again()
    {
        await AddEndpointAsync();
        await EnqueueAsync("msg_1");
        await Store.FanOutAsync(10);

        await EnqueueAsync("msg_1");
        int again = await Store.FanOutAsync(10);

        again.Should().Be(0);
        (await ClaimAsync()).Should().ContainSingle();
    }

    [Fact]
    public async Task A_transaction_that_has_ended_is_refused()
    {
        await using DbConnection connection = await ConnectAsync();
        DbTransaction transaction = await connection.BeginTransactionAsync();
        await transaction.CommitAsync();

        Func<Task> enqueue = async () => await Store.EnqueueAsync(Event("msg_1"), transaction);

        await enqueue.Should().ThrowAsync<InvalidOperationException>();
    }

    [Fact]
    public async Task A_claim_hides_the_delivery_until_its_lease_is_over_and_then_another_takes_over_with_a_higher_fence()
    {
        await AddEndpointAsync();
        await EnqueueAsync("msg_1");
        await Store.FanOutAsync(10);
        WebhookClaim first = (await ClaimAsync()).Single();

        IReadOnlyList<WebhookClaim> during = await ClaimAsync();
        await PassAsync(Lease - TimeSpan.FromSeconds(2));
        IReadOnlyList<WebhookClaim> shortlyBefore = await ClaimAsync();
        await PassAsync(TimeSpan.FromSeconds(3));
        WebhookClaim second = (await ClaimAsync(await OpenAsync())).Single();

        during.Should().BeEmpty();
        shortlyBefore.Should().BeEmpty();
        second.DeliveryId.Should().Be(first.DeliveryId);
        second.Fence.Should().BeGreaterThan(first.Fence);
        second.Age.Should().BeCloseTo(Lease + TimeSpan.FromSeconds(1), TimeSpan.FromSeconds(2));
    }

    [Fact]
    public async Task An_outcome_under_an_old_fence_does_not_count_but_its_attempt_is_listed()
    {
        await AddEndpointAsync();
        await EnqueueAsync("msg_1");
        await Store.FanOutAsync(10);
        WebhookClaim first = (await ClaimAsync()).Single();
        await PassAsync(Lease + TimeSpan.FromSeconds(1));
        WebhookClaim second = (await ClaimAsync()).Single();

        await Store.RecordAsync([Delivered(first)]);
        WebhookDelivery afterFirst = await DeliveryAsync();
        await Store.RecordAsync([Failed(second, TimeSpan.FromMinutes(1))]);
        WebhookDelivery afterSecond = await DeliveryAsync();

        afterFirst.Should().BeEquivalentTo(new { State = WebhookDeliveryState.Pending, Attempts = 0 });
        afterSecond.Should().BeEquivalentTo(new { State = WebhookDeliveryState.Pending, Attempts = 1 });
        (await Store.ListAttemptsAsync(first.DeliveryId)).Select(attempt => (attempt.Number, attempt.Status)).Should().Equal((first.Fence, 200), (second.Fence, 500));
    }

    [Fact]
    public async Task Recording_the_same_outcomes_twice_is_recording_them_once()
    {
        string id = await AddEndpointAsync();
        await EnqueueAsync("msg_1");
        await Store.FanOutAsync(10);
        WebhookClaim claim = (await ClaimAsync()).Single();

        await Store.RecordAsync([Failed(claim, TimeSpan.FromMinutes(1))]);
        await Store.RecordAsync([Failed(claim, TimeSpan.FromMinutes(1))]);

        (await DeliveryAsync()).Attempts.Should().Be(1);
        (await Store.FindEndpointAsync(id))!.Endpoint.ConsecutiveFailures.Should().Be(1);
        (await Store.ListAttemptsAsync(claim.DeliveryId)).Should().ContainSingle();
    }

    [Fact]
    public async Task A_failed_attempt_comes_again_after_its_delay_and_not_before()
    {
        await AddEndpointAsync();
        await EnqueueAsync("msg_1");
        await Store.FanOutAsync(10);
        WebhookClaim claim = (await ClaimAsync()).Single();
        await Store.RecordAsync([Failed(claim, TimeSpan.FromMinutes(5), pause: TimeSpan.FromSeconds(1))]);

        await PassAsync(TimeSpan.FromMinutes(5) - TimeSpan.FromSeconds(5));
        IReadOnlyList<WebhookClaim> before = await ClaimAsync();
        await PassAsync(TimeSpan.FromSeconds(6));
        WebhookClaim again = (await ClaimAsync()).Single();

        before.Should().BeEmpty();
        again.Attempts.Should().Be(1);
        again.Age.Should().BeCloseTo(TimeSpan.FromMinutes(5), TimeSpan.FromSeconds(5));
        again.FailingFor.Should().BeCloseTo(TimeSpan.FromMinutes(5), TimeSpan.FromSeconds(5));
    }

    [Fact]
    public async Task A_claim_that_was_given_back_is_as_if_it_had_not_been()
    {
        await AddEndpointAsync();
        await EnqueueAsync("msg_1");
        await Store.FanOutAsync(10);
        WebhookClaim claim = (await ClaimAsync()).Single();
        await PassAsync(TimeSpan.FromSeconds(20));

        await Store.RecordAsync([Returned(claim)]);
        await PassAsync(TimeSpan.FromSeconds(1));
        WebhookClaim again = (await ClaimAsync()).Single();

        again.Attempts.Should().Be(0);
        again.Age.Should().Be(TimeSpan.Zero);
        (await Store.ListAttemptsAsync(claim.DeliveryId)).Should().BeEmpty();
    }

    [Fact]
    public async Task What_is_finished_is_not_claimed_again()
    {
        await AddEndpointAsync();
        await EnqueueAsync("msg_1");
        await EnqueueAsync("msg_2");
        await Store.FanOutAsync(10);
        IReadOnlyList<WebhookClaim> claims = await ClaimAsync();

        await Store.RecordAsync([Delivered(claims[0]), Dead(claims[1])]);
        await PassAsync(TimeSpan.FromDays(1));

        (await ClaimAsync()).Should().BeEmpty();
        IReadOnlyList<WebhookDelivery> deliveries = await Store.ListDeliveriesAsync(new(), null, 10);
        deliveries.Select(delivery => (delivery.EventId, delivery.State, delivery.DeadReason, delivery.NextAttemptAt)).Should().Equal(
            ("msg_2", WebhookDeliveryState.Dead, "enough", null), ("msg_1", WebhookDeliveryState.Delivered, null, null));
        deliveries.Should().OnlyContain(delivery => delivery.FinishedAt != null && delivery.Attempts == 1);
    }

    [Fact]
    public async Task An_attempt_is_listed_as_it_was()
    {
        await AddEndpointAsync();
        await EnqueueAsync("msg_1");
        await Store.FanOutAsync(10);
        WebhookClaim claim = (await ClaimAsync()).Single();
        byte[] response = [0, 255, .. Encoding.UTF8.GetBytes("'\"\0")];
        var attempt = new WebhookAttempt(claim.Fence, default, null, TimeSpan.FromMilliseconds(1234.5), "no connection", response);

        await Store.RecordAsync([Failed(claim, TimeSpan.FromSeconds(5)) with { Attempt = attempt }]);

        WebhookAttempt listed = (await Store.ListAttemptsAsync(claim.DeliveryId)).Single();
        listed.Should().BeEquivalentTo(new { Number = claim.Fence, Status = (int?)null, Duration = TimeSpan.FromMilliseconds(1234.5), Error = "no connection" });
        listed.Response.ToArray().Should().Equal(response);
    }

    [Fact]
    public async Task A_key_waits_for_its_head_until_it_is_delivered_or_dead_and_other_keys_go_on()
    {
        await AddEndpointAsync();
        await EnqueueAsync("a1", key: "a");
        await EnqueueAsync("a2", key: "a");
        await EnqueueAsync("a3", key: "a");
        await EnqueueAsync("b1", key: "b");
        await EnqueueAsync("free");
        await Store.FanOutAsync(10);

        IReadOnlyList<WebhookClaim> first = await ClaimAsync();
        await Store.RecordAsync([Failed(first.Single(claim => claim.Event.Id == "a1"), TimeSpan.FromMinutes(30), pause: TimeSpan.FromSeconds(1)), .. first.Where(claim => claim.Event.Id != "a1").Select(Delivered)]);
        await PassAsync(TimeSpan.FromMinutes(29));
        IReadOnlyList<WebhookClaim> whileWaiting = await ClaimAsync();
        await PassAsync(TimeSpan.FromMinutes(2));
        WebhookClaim retry = (await ClaimAsync()).Single();
        await Store.RecordAsync([Dead(retry, pause: TimeSpan.FromSeconds(1))]);
        await PassAsync(TimeSpan.FromSeconds(2));
        WebhookClaim second = (await ClaimAsync()).Single();
        IReadOnlyList<WebhookClaim> besides = await ClaimAsync();
        await Store.RecordAsync([Delivered(second)]);
        WebhookClaim third = (await ClaimAsync()).Single();

        first.Select(claim => claim.Event.Id).Should().BeEquivalentTo("a1", "b1", "free");
        whileWaiting.Should().BeEmpty();
        retry.Event.Id.Should().Be("a1");
        second.Event.Id.Should().Be("a2");
        besides.Should().BeEmpty("a2 is under way");
        third.Event.Id.Should().Be("a3");
    }

    [Fact]
    public async Task Keys_of_different_endpoints_do_not_wait_for_each_other()
    {
        string slow = await AddEndpointAsync();
        await AddEndpointAsync();
        await EnqueueAsync("a1", key: "a");
        await EnqueueAsync("a2", key: "a");
        await Store.FanOutAsync(10);
        IReadOnlyList<WebhookClaim> first = await ClaimAsync();
        await Store.RecordAsync([Delivered(first.Single(claim => claim.Endpoint.Id != slow))]);

        IReadOnlyList<WebhookClaim> second = await ClaimAsync();

        first.Should().HaveCount(2);
        second.Single().Should().Match<WebhookClaim>(claim => claim.Endpoint.Id != slow && claim.Event.Id == "a2");
    }

    [Fact]
    public async Task A_redriven_head_waits_for_what_is_under_way_and_then_goes_first()
    {
        await AddEndpointAsync();
        await EnqueueAsync("a1", key: "a");
        await EnqueueAsync("a2", key: "a");
        await EnqueueAsync("a3", key: "a");
        await Store.FanOutAsync(10);
        WebhookClaim first = (await ClaimAsync()).Single();
        await Store.RecordAsync([Dead(first, failures: 0)]);
        WebhookClaim second = (await ClaimAsync()).Single();

        long redriven = await Store.RequeueAsync(new(State: WebhookDeliveryState.Dead), TimeSpan.Zero);
        IReadOnlyList<WebhookClaim> besides = await ClaimAsync();
        await Store.RecordAsync([Delivered(second)]);
        WebhookClaim again = (await ClaimAsync()).Single();

        redriven.Should().Be(1);
        second.Event.Id.Should().Be("a2");
        besides.Should().BeEmpty();
        again.Event.Id.Should().Be("a1");
        again.Attempts.Should().Be(0);
    }

    [Fact]
    public async Task Of_each_endpoint_as_many_are_taken_as_its_quota_says_those_due_longest_first()
    {
        string one = await AddEndpointAsync();
        string two = await AddEndpointAsync();
        string none = await AddEndpointAsync();
        for (int i = 0; i < 10; i++)
        {
            await EnqueueAsync($"msg_{i}");
            await Store.FanOutAsync(10);
            await PassAsync(TimeSpan.FromMilliseconds(10));
        }

        IReadOnlyList<WebhookClaim> claims = await Store.ClaimAsync(new(Lease, "", (id, _) => id == one ? 3 : id == two ? 5 : 0));

        claims.Where(claim => claim.Endpoint.Id == one).Select(claim => claim.Event.Id).Should().BeEquivalentTo("msg_0", "msg_1", "msg_2");
        claims.Where(claim => claim.Endpoint.Id == two).Select(claim => claim.Event.Id).Should().BeEquivalentTo("msg_0", "msg_1", "msg_2", "msg_3", "msg_4");
        claims.Should().NotContain(claim => claim.Endpoint.Id == none);
    }

    [Fact]
    public async Task Endpoints_are_asked_for_in_turn_from_where_the_last_claim_ended()
    {
        string[] ids = [await AddEndpointAsync(), await AddEndpointAsync(), await AddEndpointAsync(), await AddEndpointAsync()];
        await EnqueueAsync("msg_1");
        await Store.FanOutAsync(10);
        var asked = new List<string>();
        int Quota(string id, int failures)
        {
            asked.Add(id);
            return 0;
        }

        await Store.ClaimAsync(new(Lease, ids[1], Quota));
        await Store.ClaimAsync(new(Lease, ids[2], Quota, MaxEndpoints: 2));

        asked.Should().Equal(ids[2], ids[3], ids[0], ids[1], ids[3], ids[0]);
    }

    [Fact]
    public async Task A_failing_endpoint_is_left_alone_for_its_pause_and_then_gets_one_probe_whoever_asks()
    {
        string id = await AddEndpointAsync();
        for (int i = 0; i < 5; i++)
        {
            await EnqueueAsync($"msg_{i}");
        }

        await Store.FanOutAsync(10);
        WebhookClaim first = (await ClaimAsync(quota: 1)).Single();
        await Store.RecordAsync([Failed(first, TimeSpan.FromHours(1), pause: TimeSpan.FromMinutes(1))]);
        IReadOnlyList<WebhookClaim> paused = await ClaimAsync();
        WebhookEndpoint whilePaused = (await Store.FindEndpointAsync(id))!.Endpoint;
        await PassAsync(TimeSpan.FromSeconds(61));

        IReadOnlyList<WebhookClaim> probe = await ClaimAsync(quota: 5);
        IReadOnlyList<WebhookClaim> other = await ClaimAsync(await OpenAsync(), quota: 5);
        await Store.RecordAsync([Delivered(probe[0])]);
        WebhookEndpoint well = (await Store.FindEndpointAsync(id))!.Endpoint;
        IReadOnlyList<WebhookClaim> rest = await ClaimAsync(quota: 5);

        paused.Should().BeEmpty();
        whilePaused.Should().Match<WebhookEndpoint>(endpoint => endpoint.ConsecutiveFailures == 1 && endpoint.FailingSince != null && endpoint.PausedUntil != null);
        probe.Should().ContainSingle().Which.Endpoint.ConsecutiveFailures.Should().Be(1);
        other.Should().BeEmpty();
        well.Should().BeEquivalentTo(new { ConsecutiveFailures = 0, FailingSince = (DateTimeOffset?)null, PausedUntil = (DateTimeOffset?)null });
        rest.Should().HaveCount(3);
    }

    [Fact]
    public async Task Of_many_that_ask_at_once_for_a_failing_endpoint_one_gets_its_probe()
    {
        await AddEndpointAsync();
        for (int i = 0; i < 20; i++)
        {
            await EnqueueAsync($"msg_{i}");
        }

        await Store.FanOutAsync(100);
        WebhookClaim claim = (await ClaimAsync(quota: 1)).Single();
        for (int round = 0; round < 5; round++)
        {
            await Store.RecordAsync([Failed(claim, TimeSpan.FromHours(1))]);
            await PassAsync(TimeSpan.FromSeconds(2));

            IReadOnlyList<WebhookClaim>[] all = await Task.WhenAll(Enumerable.Range(0, 6).Select(_ => Task.Run(async () => await ClaimAsync(await OpenAsync(), quota: 5))));

            claim = all.SelectMany(claims => claims).Should().ContainSingle().Which;
        }
    }

    [Fact]
    public async Task A_probe_whose_worker_died_is_made_again_after_the_lease()
    {
        await AddEndpointAsync();
        await EnqueueAsync("msg_1");
        await EnqueueAsync("msg_2");
        await Store.FanOutAsync(10);
        await Store.RecordAsync([Failed((await ClaimAsync(quota: 1)).Single(), TimeSpan.FromHours(1), pause: TimeSpan.FromSeconds(1))]);
        await PassAsync(TimeSpan.FromSeconds(2));
        await ClaimAsync();

        await PassAsync(Lease + TimeSpan.FromSeconds(1));
        IReadOnlyList<WebhookClaim> again = await ClaimAsync();

        again.Should().ContainSingle();
    }

    [Fact]
    public async Task A_probe_that_was_given_back_or_found_nothing_to_take_keeps_nobody_waiting()
    {
        await AddEndpointAsync();
        await EnqueueAsync("a1", key: "a");
        await EnqueueAsync("a2", key: "a");
        await Store.FanOutAsync(10);
        await Store.RecordAsync([Failed((await ClaimAsync()).Single(), TimeSpan.FromSeconds(10), pause: TimeSpan.FromSeconds(1))]);
        await PassAsync(TimeSpan.FromSeconds(2));

        IReadOnlyList<WebhookClaim> blocked = await ClaimAsync();
        await PassAsync(TimeSpan.FromSeconds(9));
        IReadOnlyList<WebhookClaim> head = await ClaimAsync();
        await Store.RecordAsync([Returned(head.Single())]);
        IReadOnlyList<WebhookClaim> again = await ClaimAsync();

        blocked.Should().BeEmpty();
        again.Should().ContainSingle();
    }

    [Fact]
    public async Task Attempts_that_failed_side_by_side_are_one_failure()
    {
        string id = await AddEndpointAsync();
        for (int i = 0; i < 4; i++)
        {
            await EnqueueAsync($"msg_{i}");
        }

        await Store.FanOutAsync(10);
        IReadOnlyList<WebhookClaim> claims = await ClaimAsync();

        await Store.RecordAsync([.. claims.Take(2).Select(claim => Failed(claim, TimeSpan.FromSeconds(5), failures: 2))]);
        await Store.RecordAsync([.. claims.Skip(2).Select(claim => Failed(claim, TimeSpan.FromSeconds(5)))]);

        claims.Should().HaveCount(4);
        (await Store.FindEndpointAsync(id))!.Endpoint.ConsecutiveFailures.Should().Be(2);
    }

    [Fact]
    public async Task An_endpoint_that_is_disabled_by_an_outcome_tells_it_once_and_what_is_pending_becomes_dead_letters()
    {
        string id = await AddEndpointAsync();
        string other = await AddEndpointAsync(types: [WebhookEndpoints.DisabledType]);
        await EnqueueAsync("msg_1");
        await EnqueueAsync("msg_2");
        await EnqueueAsync("msg_3");
        await Store.FanOutAsync(10);
        IReadOnlyList<WebhookClaim> claims = await ClaimAsync(quota: 2);
        WebhookOutcome Gone(WebhookClaim claim, string told) => Dead(claim) with { Health = new(1, TimeSpan.FromSeconds(1), "gone", Event(told) with { Type = WebhookEndpoints.DisabledType }) };

        await Store.RecordAsync([Gone(claims[0], "told_1")]);
        await Store.RecordAsync([Gone(claims[1], "told_2")]);
        await EnqueueAsync("msg_4");
        await Store.FanOutAsync(10);
        int buried = await Store.MaintainAsync(Month, 100);

        WebhookEndpoint endpoint = (await Store.FindEndpointAsync(id))!.Endpoint;
        endpoint.Should().BeEquivalentTo(new { IsEnabled = false, DisabledReason = "gone" });
        buried.Should().Be(2, "msg_3 and msg_4; nobody is told of itself");
        (await Store.ListDeliveriesAsync(new(EndpointId: id), null, 10)).Should().HaveCount(4).And.OnlyContain(delivery => delivery.State == WebhookDeliveryState.Dead);
        (await ClaimAsync()).Should().ContainSingle().Which.Should().Match<WebhookClaim>(claim => claim.Endpoint.Id == other && claim.Event.Id == "told_1");
    }

    [Fact]
    public async Task What_is_under_way_when_its_endpoint_is_disabled_ends_as_it_ends()
    {
        string id = await AddEndpointAsync();
        await EnqueueAsync("msg_1");
        await Store.FanOutAsync(10);
        WebhookClaim claim = (await ClaimAsync()).Single();
        await SetEnabledAsync(id, false);

        int buried = await Store.MaintainAsync(Month, 100);
        await Store.RecordAsync([Delivered(claim)]);

        buried.Should().Be(0);
        (await DeliveryAsync()).State.Should().Be(WebhookDeliveryState.Delivered);
    }

    [Fact]
    public async Task A_new_URL_has_neither_failures_nor_a_pause_and_what_the_old_one_answered_gives_it_none()
    {
        string id = await AddEndpointAsync();
        await EnqueueAsync("msg_1");
        await EnqueueAsync("msg_2");
        await Store.FanOutAsync(10);
        IReadOnlyList<WebhookClaim> claims = await ClaimAsync();
        await Store.RecordAsync([Failed(claims[0], TimeSpan.Zero, pause: TimeSpan.FromHours(79))]);
        WebhookEndpointRow row = (await Store.FindEndpointAsync(id))!;

        await Store.UpdateEndpointAsync(row with { Endpoint = row.Endpoint with { Url = "https://example.com/new" } });
        await Store.RecordAsync([Failed(claims[1], TimeSpan.Zero, pause: TimeSpan.FromHours(79))]);

        (await Store.FindEndpointAsync(id))!.Endpoint.Should().BeEquivalentTo(new { Url = "https://example.com/new", ConsecutiveFailures = 0, FailingSince = (DateTimeOffset?)null, PausedUntil = (DateTimeOffset?)null });
        (await ClaimAsync()).Should().HaveCount(2);
    }

    [Fact]
    public async Task What_an_old_URL_answered_does_not_disable_the_endpoint_at_its_new_one()
    {
        string id = await AddEndpointAsync();
        await EnqueueAsync("msg_1");
        await Store.FanOutAsync(10);
        WebhookClaim claim = (await ClaimAsync()).Single();
        WebhookEndpointRow row = (await Store.FindEndpointAsync(id))!;
        await Store.UpdateEndpointAsync(row with { Endpoint = row.Endpoint with { Url = "https://example.com/new" } });

        await Store.RecordAsync([Dead(claim) with { Health = new(1, TimeSpan.FromSeconds(1), "gone", Event("told") with { Type = WebhookEndpoints.DisabledType }) }]);

        (await Store.FindEndpointAsync(id))!.Endpoint.Should().BeEquivalentTo(new { IsEnabled = true, DisabledReason = (string?)null });
        (await Store.FanOutAsync(10)).Should().Be(0, "nothing is told");
        (await DeliveryAsync()).State.Should().Be(WebhookDeliveryState.Dead);
    }

    [Fact]
    public async Task A_claim_goes_where_the_endpoint_was_changed_to_before_it()
    {
        string id = await AddEndpointAsync();
        await EnqueueAsync("msg_1");
        await Store.FanOutAsync(10);
        int Quota(string _, int failures)
        {
            WebhookEndpointRow row = Store.FindEndpointAsync(id).AsTask().GetAwaiter().GetResult()!;
            Store.UpdateEndpointAsync(row with { Endpoint = row.Endpoint with { Url = "https://example.com/new" }, Secrets = "others" }).AsTask().GetAwaiter().GetResult();
            return 5;
        }

        IReadOnlyList<WebhookClaim> during = await Store.ClaimAsync(new(Lease, "", Quota));
        IReadOnlyList<WebhookClaim> after = await ClaimAsync();

        during.Concat(after).Should().ContainSingle().Which.Should().Match<WebhookClaim>(claim => claim.Endpoint.Url == "https://example.com/new" && claim.Secrets == "others");
    }

    [Fact]
    public async Task Dead_letters_of_a_disabled_endpoint_are_redriven_when_it_is_enabled_again()
    {
        string id = await AddEndpointAsync();
        await EnqueueAsync("msg_1");
        await Store.FanOutAsync(10);
        await SetEnabledAsync(id, false);
        IReadOnlyList<WebhookClaim> whileDisabled = await ClaimAsync();
        await Store.MaintainAsync(Month, 100);

        long refused = await Store.RequeueAsync(new(EndpointId: id), TimeSpan.Zero);
        await SetEnabledAsync(id, true);
        long redriven = await Store.RequeueAsync(new(EndpointId: id), TimeSpan.Zero);

        whileDisabled.Should().BeEmpty();
        refused.Should().Be(0);
        redriven.Should().Be(1);
        (await ClaimAsync()).Should().ContainSingle();
    }

    [Fact]
    public async Task Enabling_forgets_failures_and_pause_but_another_change_does_not()
    {
        string id = await AddEndpointAsync();
        await EnqueueAsync("msg_1");
        await Store.FanOutAsync(10);
        await Store.RecordAsync([Failed((await ClaimAsync()).Single(), TimeSpan.FromSeconds(5))]);

        await SetEnabledAsync(id, true);
        int afterChange = (await Store.FindEndpointAsync(id))!.Endpoint.ConsecutiveFailures;
        await SetEnabledAsync(id, false);
        await SetEnabledAsync(id, true);
        WebhookEndpoint afterEnabling = (await Store.FindEndpointAsync(id))!.Endpoint;

        afterChange.Should().Be(1);
        afterEnabling.Should().BeEquivalentTo(new { ConsecutiveFailures = 0, FailingSince = (DateTimeOffset?)null, PausedUntil = (DateTimeOffset?)null });
    }

    [Fact]
    public async Task An_endpoint_comes_back_as_it_was_given_and_a_change_of_an_old_version_is_refused()
    {
        string id = await AddEndpointAsync(types: ["a.b", "c"]);
        WebhookEndpointRow row = (await Store.FindEndpointAsync(id))!;

        bool changed = await Store.UpdateEndpointAsync(row with { Endpoint = row.Endpoint with { Url = "https://example.com/new", Types = ["x"] }, Secrets = "others" });
        bool late = await Store.UpdateEndpointAsync(row with { Secrets = "lost" });

        row.Endpoint.Should().BeEquivalentTo(new { Id = id, Audience = "acme", Url = "https://example.com/hooks", Types = new[] { "a.b", "c" }, IsEnabled = true, DisabledReason = (string?)null, ConsecutiveFailures = 0 });
        changed.Should().BeTrue();
        late.Should().BeFalse();
        WebhookEndpointRow now = (await Store.FindEndpointAsync(id))!;
        now.Secrets.Should().Be("others");
        now.Endpoint.Should().BeEquivalentTo(new { Url = "https://example.com/new", Types = new[] { "x" } });
        (await Store.FindEndpointAsync("ep_none")).Should().BeNull();
    }

    [Fact]
    public async Task Endpoints_are_listed_by_audience_page_by_page()
    {
        string[] ids = [await AddEndpointAsync(), await AddEndpointAsync(), await AddEndpointAsync()];
        string other = await AddEndpointAsync(audience: "other");

        IReadOnlyList<WebhookEndpoint> first = await Store.ListEndpointsAsync("acme", "", 2);
        IReadOnlyList<WebhookEndpoint> second = await Store.ListEndpointsAsync("acme", first[1].Id, 2);
        IReadOnlyList<WebhookEndpoint> all = await Store.ListEndpointsAsync(null, "", 10);

        first.Concat(second).Select(endpoint => endpoint.Id).Should().Equal(ids);
        all.Select(endpoint => endpoint.Id).Should().BeEquivalentTo([.. ids, other]);
    }

    [Fact]
    public async Task An_event_for_one_endpoint_goes_there_alone_whatever_it_subscribes_to()
    {
        string id = await AddEndpointAsync(types: ["order.created"]);
        await AddEndpointAsync();

        await Store.EnqueueAsync(Event("msg_1") with { Type = "webhook.test", EndpointId = id }, null);
        await Store.FanOutAsync(10);

        (await ClaimAsync()).Should().ContainSingle().Which.Endpoint.Id.Should().Be(id);
    }

    [Fact]
    public async Task A_filter_finds_what_it_names_and_pages_go_back_in_time()
    {
        string one = await AddEndpointAsync();
        await AddEndpointAsync(audience: "other");
        await EnqueueAsync("msg_1");
        await EnqueueAsync("msg_2", type: "order.paid");
        await EnqueueAsync("msg_3", audience: "other");
        await Store.FanOutAsync(10);
        await Store.RecordAsync([Dead((await ClaimAsync()).Single(claim => claim.Event.Id == "msg_2"))]);

        async Task<string[]> FindAsync(WebhookDeliveryFilter filter) => [.. (await Store.ListDeliveriesAsync(filter, null, 10)).Select(delivery => delivery.EventId)];

        (await FindAsync(new())).Should().BeEquivalentTo("msg_1", "msg_2", "msg_3");
        (await FindAsync(new(Audience: "acme"))).Should().Equal("msg_2", "msg_1");
        (await FindAsync(new(EndpointId: one))).Should().Equal("msg_2", "msg_1");
        (await FindAsync(new(EventType: "order.paid"))).Should().Equal("msg_2");
        (await FindAsync(new(EventId: "msg_3"))).Should().Equal("msg_3");
        (await FindAsync(new(State: WebhookDeliveryState.Dead))).Should().Equal("msg_2");
        (await FindAsync(new(Audience: "other", State: WebhookDeliveryState.Dead))).Should().BeEmpty();
        WebhookDelivery newest = (await Store.ListDeliveriesAsync(new(Audience: "acme"), null, 1)).Single();
        (await Store.ListDeliveriesAsync(new(Audience: "acme"), newest.Id, 5)).Select(delivery => delivery.EventId).Should().Equal("msg_1");
        (await Store.ListDeliveriesAsync(new(DeliveryId: newest.Id), null, 5)).Select(delivery => delivery.EventId).Should().Equal("msg_2");
    }

    [Fact]
    public async Task A_redrive_spaces_what_it_makes_due_oldest_first()
    {
        await AddEndpointAsync();
        for (int i = 0; i < 5; i++)
        {
            await EnqueueAsync($"msg_{i}");
        }

        await Store.FanOutAsync(10);
        await Store.RecordAsync([.. (await ClaimAsync()).Select(claim => Dead(claim, failures: 0))]);

        long count = await Store.RequeueAsync(new(State: WebhookDeliveryState.Dead), TimeSpan.FromSeconds(10));
        string[] atOnce = [.. (await ClaimAsync()).Select(claim => claim.Event.Id)];
        await PassAsync(TimeSpan.FromSeconds(21));
        string[] later = [.. (await ClaimAsync()).Select(claim => claim.Event.Id)];

        count.Should().Be(5);
        atOnce.Should().Equal("msg_0");
        later.Should().BeEquivalentTo("msg_1", "msg_2");
    }

    [Fact]
    public async Task What_is_pending_is_not_requeued()
    {
        await AddEndpointAsync();
        await EnqueueAsync("msg_1");
        await Store.FanOutAsync(10);
        await ClaimAsync();

        long count = await Store.RequeueAsync(new(), TimeSpan.Zero);

        count.Should().Be(0);
        (await ClaimAsync()).Should().BeEmpty();
    }

    [Fact]
    public async Task What_is_finished_for_longer_than_the_retention_is_deleted_in_batches_with_its_attempts_and_its_event()
    {
        await AddEndpointAsync();
        for (int i = 0; i < 5; i++)
        {
            await EnqueueAsync($"msg_{i}");
        }

        await Store.FanOutAsync(10);
        IReadOnlyList<WebhookClaim> claims = await ClaimAsync();
        await Store.RecordAsync([.. claims.Take(4).Select(Delivered)]);
        await PassAsync(Month - TimeSpan.FromHours(1));
        int early = await Store.MaintainAsync(Month, 3);
        await PassAsync(TimeSpan.FromHours(2));

        int first = await Store.MaintainAsync(Month, 3);
        int second = await Store.MaintainAsync(Month, 3);
        await Store.MaintainAsync(Month, 3);

        early.Should().Be(0);
        first.Should().Be(3);
        second.Should().BeInRange(1, 3);
        (await Store.ListDeliveriesAsync(new(), null, 10)).Should().ContainSingle("it is still pending").Which.EventId.Should().Be(claims[4].Event.Id);
        (await Store.ListAttemptsAsync(claims[0].DeliveryId)).Should().BeEmpty();
        (await CountAsync("webhook_events")).Should().Be(1);
        (await CountAsync("webhook_attempts")).Should().Be(0);
    }

    [Fact]
    public async Task The_oldest_due_is_told_without_what_is_paused_or_disabled()
    {
        string id = await AddEndpointAsync();
        await EnqueueAsync("msg_1");
        await EnqueueAsync("msg_2");
        await PassAsync(TimeSpan.FromSeconds(30));
        TimeSpan waiting = await Store.OldestDueAsync();
        await Store.FanOutAsync(10);
        await PassAsync(TimeSpan.FromSeconds(10));

        TimeSpan due = await Store.OldestDueAsync();
        await Store.RecordAsync([Failed((await ClaimAsync(quota: 1)).Single(), TimeSpan.FromHours(1), pause: TimeSpan.FromHours(1))]);
        TimeSpan paused = await Store.OldestDueAsync();
        await SetEnabledAsync(id, false);
        TimeSpan disabled = await Store.OldestDueAsync();

        waiting.Should().BeCloseTo(TimeSpan.FromSeconds(30), TimeSpan.FromSeconds(5));
        due.Should().BeCloseTo(TimeSpan.FromSeconds(10), TimeSpan.FromSeconds(5));
        paused.Should().Be(TimeSpan.Zero);
        disabled.Should().Be(TimeSpan.Zero);
    }

    [Fact]
    public async Task The_age_counts_from_the_first_claim_and_a_redrive_begins_it_afresh()
    {
        await AddEndpointAsync();
        await EnqueueAsync("msg_1");
        await Store.FanOutAsync(10);
        await Store.RecordAsync([Failed((await ClaimAsync()).Single(), TimeSpan.FromHours(1))]);
        await PassAsync(TimeSpan.FromHours(2));
        await ClaimAsync();
        await PassAsync(TimeSpan.FromHours(2));

        WebhookClaim third = (await ClaimAsync()).Single();
        await Store.RecordAsync([Dead(third, failures: 0)]);
        await Store.RequeueAsync(new(), TimeSpan.Zero);
        WebhookClaim redriven = (await ClaimAsync()).Single();

        third.Age.Should().BeCloseTo(TimeSpan.FromHours(4), TimeSpan.FromMinutes(1));
        redriven.Age.Should().Be(TimeSpan.Zero);
    }

    [Fact]
    public async Task What_waits_behind_the_head_of_its_key_is_not_due()
    {
        await AddEndpointAsync();
        await EnqueueAsync("a1", key: "a");
        await EnqueueAsync("a2", key: "a");
        await Store.FanOutAsync(10);
        await Store.RecordAsync([Failed((await ClaimAsync()).Single(), TimeSpan.FromHours(1))]);
        await PassAsync(TimeSpan.FromMinutes(10));
        TimeSpan behind = await Store.OldestDueAsync();
        await EnqueueAsync("b1", key: "b");
        await Store.FanOutAsync(10);
        await PassAsync(TimeSpan.FromSeconds(30));

        TimeSpan other = await Store.OldestDueAsync();

        behind.Should().Be(TimeSpan.Zero);
        other.Should().BeCloseTo(TimeSpan.FromSeconds(30), TimeSpan.FromSeconds(10));
    }

    [Fact]
    public async Task Many_workers_at_once_take_each_delivery_once_and_of_each_key_one_at_a_time()
    {
        await AddEndpointAsync();
        await AddEndpointAsync();
        for (int i = 0; i < 60; i++)
        {
            await EnqueueAsync($"msg_{i}", key: i % 3 == 0 ? null : $"key_{i % 4}");
        }

        var underWay = new System.Collections.Concurrent.ConcurrentDictionary<string, int>();
        var seen = new System.Collections.Concurrent.ConcurrentQueue<string>();
        var trouble = new System.Collections.Concurrent.ConcurrentQueue<string>();
        async Task WorkAsync()
        {
            IWebhookDeliveryStore store = await OpenAsync();
            for (int idle = 0; idle < 40;)
            {
                int events = await store.FanOutAsync(7);
                IReadOnlyList<WebhookClaim> claims = await store.ClaimAsync(new(Lease, "", (_, _) => 5));
                idle = events + claims.Count == 0 ? idle + 1 : 0;
                foreach (WebhookClaim claim in claims)
                {
                    seen.Enqueue($"{claim.Endpoint.Id} {claim.Event.Id}");
                    if (claim.Event.OrderKey is string key && underWay.AddOrUpdate($"{claim.Endpoint.Id} {key}", 1, (_, count) => count + 1) > 1)
                    {
                        trouble.Enqueue(claim.Event.Id);
                    }
                }

                await Task.Yield();
                foreach (WebhookClaim claim in claims.Where(claim => claim.Event.OrderKey is not null))
                {
                    underWay.AddOrUpdate($"{claim.Endpoint.Id} {claim.Event.OrderKey}", 0, (_, count) => count - 1);
                }

                await store.RecordAsync([.. claims.Select(Delivered)]);
            }
        }

        await Task.WhenAll(Enumerable.Range(0, 4).Select(_ => Task.Run(WorkAsync)));

        trouble.Should().BeEmpty();
        seen.Should().HaveCount(120).And.OnlyHaveUniqueItems();
        string[] ordered = [.. seen.Where(name => name.StartsWith(seen.First()[..^6], StringComparison.Ordinal))];
        ordered.Should().NotBeEmpty();
    }

    protected static WebhookEventRow Event(string id, string type = "order.created", string audience = "acme", string? key = null) =>
        new(id, type, audience, key, null, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", Encoding.UTF8.GetBytes($"body of {id}"));

    protected async Task<string> AddEndpointAsync(string audience = "acme", params string[] types)
    {
        string id = $"ep_{++_endpoints:D4}";
        await Store.InsertEndpointAsync(new(new WebhookEndpoint(id, audience, "https://example.com/hooks", types, true, null, 0, null, null, default), "secrets", 0));
        return id;
    }

    protected ValueTask EnqueueAsync(string id, string type = "order.created", string audience = "acme", string? key = null) => Store.EnqueueAsync(Event(id, type, audience, key), null);

    protected async Task<IReadOnlyList<WebhookClaim>> ClaimAsync(IWebhookDeliveryStore? store = null, int quota = 100)
    {
        IReadOnlyList<WebhookClaim> claims = await (store ?? Store).ClaimAsync(new WebhookClaimRequest(Lease, "", (_, _) => quota));
        return [.. claims.OrderBy(claim => claim.DeliveryId)];
    }

    private async Task<WebhookDelivery> DeliveryAsync() => (await Store.ListDeliveriesAsync(new(), null, 10)).Single();

    private async Task SetEnabledAsync(string id, bool enabled)
    {
        WebhookEndpointRow row = (await Store.FindEndpointAsync(id))!;
        (await Store.UpdateEndpointAsync(row with { Endpoint = row.Endpoint with { IsEnabled = enabled, DisabledReason = enabled ? null : "by hand" } })).Should().BeTrue();
    }

    private async Task<long> CountAsync(string table)
    {
        await using DbConnection connection = await ConnectAsync();
        await using DbCommand command = connection.CreateCommand();
        command.CommandText = $"SELECT count(*) FROM {table}";
        return Convert.ToInt64(await command.ExecuteScalarAsync(), System.Globalization.CultureInfo.InvariantCulture);
    }

    private async Task<int> CountWaitingAsync()
    {
        await using DbConnection connection = await ConnectAsync();
        await using DbCommand command = connection.CreateCommand();
        command.CommandText = "SELECT count(*) FROM webhook_events";
        return Convert.ToInt32(await command.ExecuteScalarAsync(), System.Globalization.CultureInfo.InvariantCulture);
    }

    private static WebhookAttempt Attempt(WebhookClaim claim, int status) => new(claim.Fence, default, status, TimeSpan.FromMilliseconds(12), null, Encoding.UTF8.GetBytes("answer"));

    private static WebhookOutcome Delivered(WebhookClaim claim) => new(claim, WebhookDeliveryState.Delivered, TimeSpan.Zero, null, Attempt(claim, 200), new(0, TimeSpan.Zero));

    private static WebhookOutcome Failed(WebhookClaim claim, TimeSpan delay, TimeSpan? pause = null, int failures = 1) =>
        new(claim, WebhookDeliveryState.Pending, delay, null, Attempt(claim, 500), new(failures, pause ?? TimeSpan.FromSeconds(1)));

    private static WebhookOutcome Dead(WebhookClaim claim, TimeSpan? pause = null, int failures = 1) =>
        new(claim, WebhookDeliveryState.Dead, TimeSpan.Zero, "enough", Attempt(claim, 500), new(failures, pause ?? TimeSpan.FromSeconds(1)));

    private static WebhookOutcome Returned(WebhookClaim claim) => new(claim, WebhookDeliveryState.Pending, TimeSpan.Zero, null, null, new(null, TimeSpan.Zero));
}
