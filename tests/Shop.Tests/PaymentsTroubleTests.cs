using System.Net;
using System.Text;
using Backend.Toolkit.CircuitBreakers;

namespace Shop.Tests;

/// <summary>What customers see while payments fails, hangs and comes back.</summary>
public sealed class PaymentsTroubleTests
{
    private const string LongBreak = "--OutboundPolicies:payments:CircuitBreaker:BreakDuration=00:10:00";
    private const string LongCap = "--OutboundPolicies:payments:CircuitBreaker:MaxBreakDuration=00:10:00";

    [Fact]
    public async Task Now_and_then_a_failure_is_hidden_by_a_retry()
    {
        await using RunningShop shop = await RunningShop.StartAsync("--OutboundPolicies:payments:Retry:MaxAttempts=20", "--OutboundPolicies:payments:Retry:BaseDelay=0", "--OutboundPolicies:payments:CircuitBreaker:ConsecutiveFailures=100");
        await shop.TellPaymentsAsync("failing", ratio: 0.3);

        for (int i = 0; i < 60; i++)
        {
            using HttpResponseMessage response = await shop.OrderAsync();
            response.StatusCode.Should().Be(HttpStatusCode.Created);
        }

        ShopState state = await shop.StateAsync();
        state.Retries.Should().BePositive();
        (await shop.ChargesAsync()).Should().Be(new ChargeCount(Calls: 60 + (int)state.Retries, Charged: 60));
    }

    [Fact]
    public async Task Failing_payments_opens_the_circuit_which_then_answers_in_its_place()
    {
        await using RunningShop shop = await RunningShop.StartAsync(LongBreak, LongCap);
        await shop.TellPaymentsAsync("failing");
        using HttpResponseMessage first = await shop.OrderAsync();
        await RealTime.UntilAsync(async () => (await shop.OrderAsync()).StatusCode == HttpStatusCode.ServiceUnavailable, "the circuit opens");
        ChargeCount before = await shop.ChargesAsync();

        using HttpResponseMessage rejected = await shop.OrderAsync();

        first.StatusCode.Should().Be(HttpStatusCode.BadGateway);
        rejected.StatusCode.Should().Be(HttpStatusCode.ServiceUnavailable);
        rejected.Content.Headers.ContentType!.MediaType.Should().Be("application/problem+json");
        rejected.Headers.RetryAfter!.Delta.Should().BeGreaterThan(TimeSpan.FromMinutes(9)).And.BeLessThan(TimeSpan.FromMinutes(12));
        before.Calls.Should().Be(10, "that many failures in a row open it");
        (await shop.ChargesAsync()).Should().Be(before);
        (await shop.StateAsync()).Circuit.Should().Be(CircuitState.Open);
        (await shop.OrdersAsync()).Should().OnlyContain(order => order.Status == OrderStatus.Pending);
    }

    [Fact]
    public async Task An_open_circuit_is_not_retried()
    {
        await using RunningShop shop = await RunningShop.StartAsync(LongBreak, LongCap);
        await shop.TellPaymentsAsync("failing");
        await RealTime.UntilAsync(async () => (await shop.OrderAsync()).StatusCode == HttpStatusCode.ServiceUnavailable, "the circuit opens");
        ShopState before = await shop.StateAsync();

        for (int i = 0; i < 10; i++)
        {
            using HttpResponseMessage response = await shop.OrderAsync();
        }

        ShopState after = await shop.StateAsync();
        after.Answers[503].Should().Be(before.Answers[503] + 10);
        after.RetriesLeft.Should().BeGreaterThanOrEqualTo(before.RetriesLeft, "each retry would have been taken from the budget");
    }

    [Fact]
    public async Task Orders_are_paid_again_soon_after_payments_recovers()
    {
        await using RunningShop shop = await RunningShop.StartAsync();
        await shop.TellPaymentsAsync("failing");
        await RealTime.UntilAsync(async () => (await shop.OrderAsync()).StatusCode == HttpStatusCode.ServiceUnavailable, "the circuit opens");

        await shop.TellPaymentsAsync("healthy");
        await RealTime.UntilAsync(async () => (await shop.OrderAsync()).StatusCode == HttpStatusCode.Created, "an order is paid");

        (await shop.StateAsync()).Circuit.Should().Be(CircuitState.Closed);
    }

    [Fact]
    public async Task Hanging_payments_opens_the_circuit_and_nobody_waits_longer_than_the_budget()
    {
        await using RunningShop shop = await RunningShop.StartAsync(LongBreak, LongCap);
        await shop.TellPaymentsAsync("hanging");
        HttpStatusCode[] statuses = [];

        TimeSpan together = await RealTime.MeasureAsync(async () => statuses = await Task.WhenAll(Enumerable.Range(0, 12).Select(async _ => (await shop.OrderAsync()).StatusCode)));
        ChargeCount before = await shop.ChargesAsync();
        TimeSpan afterwards = await RealTime.MeasureAsync(async () => (await shop.OrderAsync()).StatusCode.Should().Be(HttpStatusCode.ServiceUnavailable));

        together.Should().BeGreaterThan(TimeSpan.FromMilliseconds(400)).And.BeLessThan(TimeSpan.FromSeconds(10), "the budget is 2 s, and the machine may be busy");
        afterwards.Should().BeLessThan(TimeSpan.FromSeconds(2), "an open circuit waits for nobody");
        (await shop.ChargesAsync()).Should().Be(before);
        statuses.Should().OnlyContain(status => status == HttpStatusCode.ServiceUnavailable || status == HttpStatusCode.GatewayTimeout);
        (await shop.StateAsync()).Circuit.Should().Be(CircuitState.Open);
    }

    [Fact]
    public async Task An_answer_that_is_lost_costs_the_customer_one_charge_however_often_it_is_asked_for()
    {
        await using RunningShop shop = await RunningShop.StartAsync();
        await shop.TellPaymentsAsync("slow", delayMs: 10_000);

        HttpStatusCode status = default;
        TimeSpan elapsed = await RealTime.MeasureAsync(async () => status = (await shop.OrderAsync()).StatusCode);

        status.Should().Be(HttpStatusCode.GatewayTimeout);
        elapsed.Should().BeLessThan(TimeSpan.FromSeconds(8), "payments takes 10 s");
        (await shop.ChargesAsync()).Should().Match<ChargeCount>(count => count.Calls > 1 && count.Charged == 1);
        await RealTime.UntilAsync(async () => (await shop.OrdersAsync()).Single().Status == OrderStatus.Paid, "payments tells of the charge by a webhook");
    }

    [Fact]
    public async Task Customers_who_hang_up_are_not_held_against_payments_and_find_their_order_paid()
    {
        await using RunningShop shop = await RunningShop.StartAsync(
            "--OutboundPolicies:payments:Budget:Total=00:00:30", "--OutboundPolicies:payments:Attempt:Total=00:00:20", "--RequestBudget:Maximum=00:00:40", "--Idempotency:orders:MaxWait=00:00:20");
        await shop.TellPaymentsAsync("slow", delayMs: 1000);
        using var hangUp = new CancellationTokenSource();
        Task<HttpResponseMessage>[] orders = [.. Enumerable.Range(0, 6).Select(i => shop.OrderAsync(key: $"{i}", cancellationToken: hangUp.Token))];
        await RealTime.UntilAsync(async () => (await shop.ChargesAsync()).Calls == orders.Length, "all orders are at payments");

        await hangUp.CancelAsync();
        Func<Task> all = () => Task.WhenAll(orders);
        await all.Should().ThrowAsync<OperationCanceledException>();
        HttpResponseMessage[] repeats = await Task.WhenAll(Enumerable.Range(0, 6).Select(i => shop.OrderAsync(key: $"{i}")));

        repeats.Should().OnlyContain(repeat => repeat.StatusCode == HttpStatusCode.Created && repeat.Headers.Contains("Idempotent-Replayed"));
        (await shop.ChargesAsync()).Should().Be(new ChargeCount(Calls: 6, Charged: 6));
        (await shop.OrdersAsync()).Should().HaveCount(6).And.OnlyContain(order => order.Status == OrderStatus.Paid);
        ShopState state = await shop.StateAsync();
        state.Circuit.Should().Be(CircuitState.Closed);
        state.Retries.Should().Be(0);
    }

    [Theory]
    [InlineData("""{"mode":"broken"}""")]
    [InlineData("""{"mode":3}""")]
    [InlineData("""{"ratio":0.5}""")]
    [InlineData("""{"mode":"failing","ratio":1.5}""")]
    [InlineData("""{"mode":"failing","ratio":-0.1}""")]
    [InlineData("""{"mode":"failing","ratio":"NaN"}""")]
    [InlineData("""{"mode":"slow","delayMs":-1}""")]
    [InlineData("""{"mode":"slow","delayMs":60001}""")]
    [InlineData("""{"mode":"slow",""")]
    [InlineData("null")]
    public async Task Payments_refuses_a_fault_that_makes_no_sense_and_stays_as_it_was(string body)
    {
        await using RunningShop shop = await RunningShop.StartAsync();

        using HttpResponseMessage response = await shop.Payments.PostAsync("faults", new StringContent(body, Encoding.UTF8, "application/json"));

        response.StatusCode.Should().Be(HttpStatusCode.BadRequest);
        response.Content.Headers.ContentType!.MediaType.Should().Be("application/problem+json");
        (await shop.Payments.GetStringAsync("faults")).Should().Contain("healthy");
    }

    [Fact]
    public async Task A_customer_in_a_hurry_shortens_the_call_to_payments()
    {
        await using RunningShop shop = await RunningShop.StartAsync("--OutboundPolicies:payments:Budget:Total=00:00:20", "--RequestBudget:Maximum=00:00:25");
        await shop.TellPaymentsAsync("hanging");
        shop.Client.DefaultRequestHeaders.Add("Timeout-Budget", "300");

        HttpStatusCode status = default;
        TimeSpan elapsed = await RealTime.MeasureAsync(async () => status = (await shop.OrderAsync()).StatusCode);

        status.Should().Be(HttpStatusCode.GatewayTimeout);
        elapsed.Should().BeLessThan(TimeSpan.FromSeconds(10), "the shop itself would wait for 20 s");
    }
}
