using System.Collections.Concurrent;
using System.Net;
using System.Net.Http.Json;
using System.Text.Json;
using Backend.Toolkit.TimeoutBudgets;

namespace Backend.Toolkit.Http.Tests;

/// <summary>Content of unknown length that is kept up to the limit, and goes on from there when it turns out larger.</summary>
public sealed class BufferingTests
{
    [Theory]
    [InlineData(10, 2)]
    [InlineData(20_000, 1)]
    public async Task A_sequence_that_can_be_read_once_arrives_whole_and_is_sent_again_only_when_it_is_small(int count, int sent)
    {
        using var outbound = new Outbound(o => o.Retry!.MaxAttempts = 2);
        outbound.Server.Answers(503);
        using var queue = new BlockingCollection<string>();
        string[] items = [.. Enumerable.Range(0, count).Select(i => $"item {i}")];
        Array.ForEach(items, queue.Add);
        queue.CompleteAdding();

        using HttpResponseMessage response = await outbound.SendAsync(Outbound.Request("PUT", JsonContent.Create(new { items = queue.GetConsumingEnumerable() }))).Soon();

        outbound.Server.Arrivals.Should().HaveCount(sent).And.OnlyContain(arrival => arrival.Body!.SequenceEqual(JsonSerializer.SerializeToUtf8Bytes(new { items }, JsonSerializerOptions.Web)));
        outbound.Logs.Texts.Last().Contains("cannot be sent twice").Should().Be(sent == 1);
    }

    [Fact]
    public async Task Large_content_arrives_whole()
    {
        using var outbound = new Outbound();
        int[] numbers = [.. Enumerable.Range(0, 200_000)];

        using HttpResponseMessage response = await outbound.SendAsync(Outbound.Request("PUT", JsonContent.Create(numbers))).Soon();

        JsonSerializer.Deserialize<int[]>(outbound.Server.Arrivals.Single().Body).Should().Equal(numbers);
    }

    [Fact]
    public async Task Content_that_listens_to_no_token_cannot_hold_a_call_past_its_budget()
    {
        using var outbound = new Outbound();

        Task<HttpResponseMessage> call = outbound.SendAsync(Outbound.Request("PUT", new DeafContent()));
        outbound.Time.Advance(TimeSpan.FromSeconds(30));

        await FluentActions.Awaiting(() => call.Soon()).Should().ThrowAsync<TimeoutBudgetExceededException>();
        outbound.Server.Count.Should().Be(0);
    }

    [Fact]
    public async Task What_was_held_up_and_is_not_sent_is_let_go()
    {
        using var outbound = new Outbound(o => o.RequestBufferLimit = 100);
        outbound.Policy.CircuitBreakers.For(new HttpAuthority("http", "payments", 80)).Isolate();
        var ended = new TaskCompletionSource();
        using var content = JsonContent.Create(Watched());

        Func<Task> call = () => outbound.SendAsync(Outbound.Request("PUT", content)).Soon();

        await call.Should().ThrowAsync<CircuitBreakers.CircuitOpenException>();
        await ended.Task.Soon();

        IEnumerable<string> Watched()
        {
            try
            {
                for (int i = 0; i < 100_000; i++)
                {
                    yield return "a long line that is written in the end";
                }
            }
            finally
            {
                ended.SetResult();
            }
        }
    }

    [Fact]
    public async Task A_message_sent_again_by_somebody_above_has_its_content_still()
    {
        using var outbound = new Outbound();
        using HttpRequestMessage request = Outbound.Request("PUT", JsonContent.Create(new[] { 1, 2 }));

        using HttpResponseMessage first = await outbound.SendAsync(request);
        using HttpResponseMessage second = await outbound.SendAsync(request);

        outbound.Server.Arrivals.Select(arrival => System.Text.Encoding.UTF8.GetString(arrival.Body!)).Should().Equal("[1,2]", "[1,2]");
        request.Content!.Headers.ContentType!.MediaType.Should().Be("application/json");
    }

    private sealed class DeafContent : HttpContent
    {
        protected override Task SerializeToStreamAsync(Stream stream, TransportContext? context) => new TaskCompletionSource().Task;

        protected override bool TryComputeLength(out long length)
        {
            length = 10;
            return true;
        }
    }
}
