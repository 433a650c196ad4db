using System.Reflection;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Microsoft.AspNetCore.Routing.Patterns;

namespace Backend.Toolkit.Conventions.Tests;

/// <summary>What is said on an endpoint holds, or the request fails: it never passes unprotected.</summary>
public sealed class EndpointMetadataTests
{
    [Fact]
    public async Task An_endpoint_whose_middleware_did_not_run_fails_and_names_it()
    {
        (Package Package, MethodInfo Method)[] methods = [.. Repository.Packages.SelectMany(package => ExtensionsOf(package, typeof(IEndpointConventionBuilder))
            .Where(method => !method.Name.StartsWith("Disable", StringComparison.Ordinal)) // They ask for no protection.
            .Select(method => (package, method)))];

        var offenders = new List<string>();
        foreach ((Package package, MethodInfo method) in methods)
        {
            string[] middleware = [.. ExtensionsOf(package, typeof(IApplicationBuilder)).Select(use => use.Name).Where(name => name.StartsWith("Use", StringComparison.Ordinal))];
            bool ran = false;
            RequestDelegate request = Endpoint(method, _ =>
            {
                ran = true;
                return Task.CompletedTask;
            });

            Exception? failure = await Record.ExceptionAsync(() => request(new DefaultHttpContext()));
            offenders.AddRange(!ran && failure is InvalidOperationException && middleware.Any(name => failure.Message.Contains(name, StringComparison.Ordinal))
                ? [] : [$"{package}: {Signature.Of(method)}: {failure?.Message ?? "passed"}"]);
        }

        methods.Should().NotBeEmpty();
        offenders.ShouldBeNone();
    }

    private static IEnumerable<MethodInfo> ExtensionsOf(Package package, Type builder) => package.PublicTypes
        .SelectMany(type => type.GetMethods(BindingFlags.Public | BindingFlags.Static | BindingFlags.DeclaredOnly))
        .Where(method => method.GetParameters() is [{ ParameterType: var first }, ..]
            && (first == builder || (first.IsGenericMethodParameter && first.GetGenericParameterConstraints().Contains(builder))));

    private static RequestDelegate Endpoint(MethodInfo method, RequestDelegate handler)
    {
        var endpoint = new RouteEndpointBuilder(handler, RoutePatternFactory.Parse("/"), 0) { DisplayName = "endpoint" };
        var conventions = new RecordedConventions();
        MethodInfo with = method.IsGenericMethod ? method.MakeGenericMethod(typeof(RecordedConventions)) : method;
        with.Invoke(null, [conventions, .. with.GetParameters().Skip(1).Select(Argument)]);
        conventions.First.ForEach(convention => convention(endpoint));
        conventions.Last.ForEach(convention => convention(endpoint));
        return endpoint.Build().RequestDelegate!;
    }

    private static object? Argument(ParameterInfo parameter) =>
        parameter.HasDefaultValue ? parameter.DefaultValue
        : parameter.ParameterType == typeof(TimeSpan) ? TimeSpan.FromSeconds(1)
        : parameter.ParameterType == typeof(string) ? "a"
        : throw new NotSupportedException($"Add a valid {parameter.ParameterType} for {parameter.Member}.");

    private sealed class RecordedConventions : IEndpointConventionBuilder
    {
        public List<Action<EndpointBuilder>> First { get; } = [];

        public List<Action<EndpointBuilder>> Last { get; } = [];

        public void Add(Action<EndpointBuilder> convention) => First.Add(convention);

        public void Finally(Action<EndpointBuilder> finallyConvention) => Last.Add(finallyConvention);
    }
}
