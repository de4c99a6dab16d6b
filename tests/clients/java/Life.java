import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.function.Consumer;
import java.util.function.Supplier;
import java.util.stream.Collectors;
import software.amazon.awssdk.awscore.exception.AwsServiceException;
import software.amazon.awssdk.core.SdkBytes;
import software.amazon.awssdk.retries.api.BackoffStrategy;
import software.amazon.awssdk.services.sagemaker.SageMakerClient;
import software.amazon.awssdk.services.sagemaker.model.AsyncInferenceConfig;
import software.amazon.awssdk.services.sagemaker.model.AsyncNotificationTopicTypes;
import software.amazon.awssdk.services.sagemaker.model.CaptureMode;
import software.amazon.awssdk.services.sagemaker.model.CreateEndpointConfigRequest;
import software.amazon.awssdk.services.sagemaker.model.CreateModelRequest;
import software.amazon.awssdk.services.sagemaker.model.DataCaptureConfig;
import software.amazon.awssdk.services.sagemaker.model.DescribeEndpointResponse;
import software.amazon.awssdk.services.sagemaker.model.EndpointConfigSortKey;
import software.amazon.awssdk.services.sagemaker.model.EndpointConfigSummary;
import software.amazon.awssdk.services.sagemaker.model.ExplainerConfig;
import software.amazon.awssdk.services.sagemaker.model.OrderKey;
import software.amazon.awssdk.services.sagemaker.model.ProductionVariant;
import software.amazon.awssdk.services.sagemaker.model.ProductionVariantInstanceType;
import software.amazon.awssdk.services.sagemaker.model.RoutingStrategy;
import software.amazon.awssdk.services.sagemaker.model.Tag;
import software.amazon.awssdk.services.sagemaker.waiters.SageMakerWaiter;
import software.amazon.awssdk.services.sagemakerruntime.SageMakerRuntimeClient;
import software.amazon.awssdk.services.sagemakerruntime.model.InvokeEndpointRequest;
import software.amazon.awssdk.services.sagemakerruntime.model.ModelErrorException;

/**
 * One whole life of an endpoint through the AWS SDK for Java v2; prints one JSON line a step.
 *
 * <p>The steps and what must come of them: tests/support/client_life.py.
 */
public final class Life {
    private static final String BUCKET = "s3://life-outputs";
    private static final String NAME = System.getenv("LIFE_NAME");
    private static final String IMAGE = System.getenv("LIFE_IMAGE");
    private static final String ROLE = System.getenv("LIFE_ROLE");
    private static final String URL = System.getenv("LIFE_MODEL_DATA");
    private static final String ROWS = System.getenv("LIFE_ROWS");

    private final SageMakerClient sagemaker = SageMakerClient.create();
    private final SageMakerRuntimeClient runtime = SageMakerRuntimeClient.create();
    private final SageMakerWaiter waiter = SageMakerWaiter.builder()
        .client(sagemaker)
        .overrideConfiguration(options -> options
            .maxAttempts(90)
            .backoffStrategyV2(BackoffStrategy.fixedDelayWithoutJitter(Duration.ofSeconds(1))))
        .build();

    public static void main(String[] arguments) {
        Life life = new Life();
        life.models();
        life.configs();
        life.endpoint();
        life.invoke();
        life.errors();
        life.change();
        life.end();
    }

    private static void tell(String step, Object... namesAndValues) {
        Map<String, Object> line = facts(namesAndValues);
        line.put("step", step);
        System.out.println(json(line));
    }

    private static Map<String, Object> facts(Object... namesAndValues) {
        Map<String, Object> facts = new LinkedHashMap<>();
        for (int i = 0; i < namesAndValues.length; i += 2) {
            facts.put((String) namesAndValues[i], namesAndValues[i + 1]);
        }
        return facts;
    }

    private static String json(Object value) {
        if (value instanceof Map<?, ?> map) {
            return map.entrySet().stream()
                .map(entry -> json(entry.getKey().toString()) + ":" + json(entry.getValue()))
                .collect(Collectors.joining(",", "{", "}"));
        }
        if (value instanceof Collection<?> collection) {
            return collection.stream().map(Life::json).collect(Collectors.joining(",", "[", "]"));
        }
        if (value == null || value instanceof Number || value instanceof Boolean) {
            return String.valueOf(value);
        }
        StringBuilder text = new StringBuilder("\"");
        for (char each : value.toString().toCharArray()) {
            if (each == '"' || each == '\\' || each < ' ') {
                text.append(String.format("\\u%04x", (int) each));
            } else {
                text.append(each);
            }
        }
        return text.append('"').toString();
    }

    private static void refused(String step, String what, String which, Supplier<?> call) {
        try {
            call.get();
            tell(step, what, which, "code", null);
        } catch (AwsServiceException fault) {
            String message = fault.awsErrorDetails().errorMessage();
            tell(step, what, which, "code", fault.awsErrorDetails().errorCode(), "message", message,
                "status", fault.statusCode());
        }
    }

    private static double seconds(Instant moment) {
        return moment.toEpochMilli() / 1000.0;
    }

    private static ProductionVariant.Builder variant() {
        return ProductionVariant.builder()
            .variantName("big")
            .modelName(NAME)
            .initialInstanceCount(1)
            .instanceType(ProductionVariantInstanceType.ML_M5_LARGE);
    }

    private static CreateModelRequest model() {
        return CreateModelRequest.builder()
            .modelName(NAME)
            .executionRoleArn(ROLE)
            .primaryContainer(c -> c.image(IMAGE).modelDataUrl(URL).environment(Map.of("GREETING", "ahoy")))
            .build();
    }

    private static CreateEndpointConfigRequest config(String name) {
        return CreateEndpointConfigRequest.builder()
            .endpointConfigName(name)
            .productionVariants(
                variant().initialVariantWeight(2f).enableSSMAccess(false).build(),
                variant().variantName("small").initialVariantWeight(0.5f).build())
            .enableNetworkIsolation(false)
            .tags(Tag.builder().key("team").value("cellar").build())
            .build();
    }

    private static Map<String, Consumer<CreateEndpointConfigRequest.Builder>> groups() {
        Map<String, Consumer<CreateEndpointConfigRequest.Builder>> groups = new LinkedHashMap<>();
        groups.put("data-capture", r -> r.dataCaptureConfig(Life::dataCapture));
        groups.put("kms-key", r -> r.kmsKeyId("1234abcd-12ab-34cd-56ef-1234567890ab"));
        groups.put("async", r -> r.asyncInferenceConfig(Life::asyncInference));
        groups.put("explainer", r -> r.explainerConfig(Life::explainer));
        groups.put("role", r -> r.executionRoleArn(ROLE));
        groups.put("vpc", r -> r.vpcConfig(v -> v.securityGroupIds("sg-12345678").subnets("subnet-12345678")));
        groups.put("isolation", r -> r.enableNetworkIsolation(true));
        groups.put("metrics", r -> r.metricsConfig(
            m -> m.enableEnhancedMetrics(true).metricPublishFrequencyInSeconds(60)));
        groups.put("shadow", r -> r.shadowProductionVariants(
            variant().variantName("shadow").initialVariantWeight(0.5f).build()));
        groups.put("serverless", r -> r.productionVariants(v -> v.variantName("big").modelName(NAME).serverlessConfig(
            s -> s.memorySizeInMB(2048).maxConcurrency(5).provisionedConcurrency(1))));
        groups.put("core-dump", with(v -> v.coreDumpConfig(c -> c.destinationS3Uri(BUCKET + "/cores"))));
        groups.put("volume", with(v -> v.volumeSizeInGB(16)));
        groups.put("download-timeout", with(v -> v.modelDataDownloadTimeoutInSeconds(600)));
        groups.put("startup-timeout", with(v -> v.containerStartupHealthCheckTimeoutInSeconds(600)));
        groups.put("routing", with(v -> v.routingConfig(
            c -> c.routingStrategy(RoutingStrategy.LEAST_OUTSTANDING_REQUESTS))));
        groups.put("shell-access", with(v -> v.enableSSMAccess(true)));
        return groups;
    }

    private static Consumer<CreateEndpointConfigRequest.Builder> with(Consumer<ProductionVariant.Builder> more) {
        ProductionVariant.Builder variant = variant();
        more.accept(variant);
        return request -> request.productionVariants(variant.build());
    }

    private static void dataCapture(DataCaptureConfig.Builder config) {
        config.enableCapture(true)
            .initialSamplingPercentage(50)
            .destinationS3Uri(BUCKET + "/captured")
            .captureOptions(o -> o.captureMode(CaptureMode.INPUT), o -> o.captureMode(CaptureMode.OUTPUT))
            .captureContentTypeHeader(h -> h.csvContentTypes("text/csv").jsonContentTypes("application/json"));
    }

    private static void asyncInference(AsyncInferenceConfig.Builder config) {
        config.clientConfig(c -> c.maxConcurrentInvocationsPerInstance(4))
            .outputConfig(o -> o
                .s3OutputPath(BUCKET + "/answers")
                .s3FailurePath(BUCKET + "/failures")
                .notificationConfig(n -> n
                    .successTopic("arn:aws:sns:us-east-1:000000000000:success")
                    .errorTopic("arn:aws:sns:us-east-1:000000000000:error")
                    .includeInferenceResponseIn(AsyncNotificationTopicTypes.SUCCESS_NOTIFICATION_TOPIC)));
    }

    private static void explainer(ExplainerConfig.Builder config) {
        config.clarifyExplainerConfig(c -> c
            .enableExplanations("`true`")
            .inferenceConfig(i -> i.maxRecordCount(10).featureHeaders("alcohol", "ash"))
            .shapConfig(s -> s
                .shapBaselineConfig(b -> b.mimeType("text/csv").shapBaseline("1,2"))
                .numberOfSamples(20)));
    }

    private void models() {
        tell("create-model", "arn", sagemaker.createModel(model()).modelArn());
        var described = sagemaker.describeModel(r -> r.modelName(NAME));
        var container = described.primaryContainer();
        tell("describe-model",
            "name", described.modelName(),
            "arn", described.modelArn(),
            "role", described.executionRoleArn(),
            "image", container.image(),
            "url", container.modelDataUrl(),
            "environment", container.environment(),
            "created", seconds(described.creationTime()));
    }

    private void configs() {
        for (String suffix : List.of("", "-2", "-3")) {
            tell("create-config", "arn", sagemaker.createEndpointConfig(config(NAME + suffix)).endpointConfigArn());
        }
        var described = sagemaker.describeEndpointConfig(r -> r.endpointConfigName(NAME));
        tell("describe-config",
            "name", described.endpointConfigName(),
            "arn", described.endpointConfigArn(),
            "created", seconds(described.creationTime()),
            "variants", described.productionVariants().stream().map(each -> facts(
                "name", each.variantName(),
                "model", each.modelName(),
                "count", each.initialInstanceCount(),
                "type", each.instanceTypeAsString(),
                "weight", each.initialVariantWeight())).toList());
        List<List<String>> pages = new ArrayList<>();
        sagemaker.listEndpointConfigsPaginator(r -> r
            .nameContains(NAME).maxResults(2).sortBy(EndpointConfigSortKey.NAME).sortOrder(OrderKey.ASCENDING))
            .forEach(page -> pages.add(
                page.endpointConfigs().stream().map(EndpointConfigSummary::endpointConfigName).toList()));
        tell("list-configs", "pages", pages);
        groups().forEach((group, add) -> refused("group", "group", group, () -> {
            var request = CreateEndpointConfigRequest.builder()
                .endpointConfigName(NAME + "-" + group)
                .productionVariants(variant().build());
            add.accept(request);
            return sagemaker.createEndpointConfig(request.build());
        }));
        tags(described.endpointConfigArn());
    }

    private void tags(String arn) {
        sagemaker.addTags(r -> r.resourceArn(arn).tags(Tag.builder().key("year").value("1987").build()));
        tell("add-tags", "tags", listed(arn));
        sagemaker.deleteTags(r -> r.resourceArn(arn).tagKeys("team"));
        tell("delete-tags", "tags", listed(arn));
    }

    private Map<String, String> listed(String arn) {
        Map<String, String> tags = new TreeMap<>();
        sagemaker.listTagsPaginator(r -> r.resourceArn(arn)).tags().forEach(tag -> tags.put(tag.key(), tag.value()));
        return tags;
    }

    private DescribeEndpointResponse describe() {
        return sagemaker.describeEndpoint(r -> r.endpointName(NAME));
    }

    private void tellEndpoint(String step) {
        var described = describe();
        tell(step,
            "status", described.endpointStatusAsString(),
            "config", described.endpointConfigName(),
            "created", seconds(described.creationTime()),
            "modified", seconds(described.lastModifiedTime()),
            "variants", described.productionVariants().stream().map(each -> facts(
                "name", each.variantName(),
                "weights", Arrays.asList(each.currentWeight(), each.desiredWeight()),
                "counts", Arrays.asList(each.currentInstanceCount(), each.desiredInstanceCount()),
                "image", each.deployedImages().get(0).specifiedImage(),
                "resolved", each.deployedImages().get(0).resolvedImage())).toList());
    }

    private void endpoint() {
        var created = sagemaker.createEndpoint(r -> r.endpointName(NAME).endpointConfigName(NAME));
        tell("create-endpoint", "arn", created.endpointArn());
        tell("describe-new", "status", describe().endpointStatusAsString());
        waiter.waitUntilEndpointInService(r -> r.endpointName(NAME));
        tell("wait-in-service", "state", "SUCCESS");
        tellEndpoint("describe-endpoint");
        tell("list-endpoints", "names", sagemaker.listEndpointsPaginator(r -> r.nameContains(NAME).maxResults(1))
            .endpoints().stream().map(each -> each.endpointName() + " " + each.endpointStatusAsString()).toList());
    }

    private static InvokeEndpointRequest.Builder invocation() {
        return InvokeEndpointRequest.builder()
            .endpointName(NAME)
            .contentType("text/csv")
            .accept("application/json")
            .targetVariant("small")
            .body(SdkBytes.fromUtf8String(ROWS));
    }

    private void invoke() {
        var answer = runtime.invokeEndpoint(invocation().build());
        tell("invoke", "variant", answer.invokedProductionVariant(), "type", answer.contentType(),
            "body", answer.body().asUtf8String());
    }

    private void errors() {
        String missing = NAME + "-missing";
        refused("error", "case", "missing-model", () -> sagemaker.describeModel(r -> r.modelName(missing)));
        refused("error", "case", "existing-model", () -> sagemaker.createModel(model()));
        refused("error", "case", "existing-config", () -> sagemaker.createEndpointConfig(config(NAME)));
        refused("error", "case", "constraints", () -> sagemaker.createEndpointConfig(r -> r
            .endpointConfigName("bad_name")
            .productionVariants(variant().instanceType("ml.nonsense").initialVariantWeight(-1f).build())));
        refused("error", "case", "missing-endpoint",
            () -> runtime.invokeEndpoint(invocation().endpointName(missing).build()));
        try {
            runtime.invokeEndpoint(invocation().contentType("application/x-nonsense").build());
        } catch (ModelErrorException fault) {
            tell("model-error",
                "code", fault.awsErrorDetails().errorCode(),
                "message", fault.awsErrorDetails().errorMessage(),
                "status", fault.statusCode(),
                "original", fault.originalStatusCode(),
                "text", fault.originalMessage(),
                "log", fault.logStreamArn());
        }
        // The first two answers to this request are lost on the way: the SDK sends it again, twice.
        refused("lost", "name", NAME + "-lost", () -> sagemaker.createEndpointConfig(config(NAME + "-lost")));
        var kept = sagemaker.describeEndpointConfig(r -> r.endpointConfigName(NAME + "-lost"));
        tell("kept", "arn", kept.endpointConfigArn());
    }

    private void change() {
        var changed = sagemaker.updateEndpointWeightsAndCapacities(r -> r
            .endpointName(NAME)
            .desiredWeightsAndCapacities(
                v -> v.variantName("big").desiredWeight(1f).desiredInstanceCount(2),
                v -> v.variantName("small").desiredWeight(3.5f)));
        tell("update-weights", "arn", changed.endpointArn());
        waiter.waitUntilEndpointInService(r -> r.endpointName(NAME));
        tellEndpoint("describe-changed");
        var updated = sagemaker.updateEndpoint(r -> r.endpointName(NAME).endpointConfigName(NAME + "-2"));
        tell("update-endpoint", "arn", updated.endpointArn());
        waiter.waitUntilEndpointInService(r -> r.endpointName(NAME));
        tellEndpoint("describe-updated");
    }

    private void end() {
        sagemaker.deleteEndpoint(r -> r.endpointName(NAME));
        waiter.waitUntilEndpointDeleted(r -> r.endpointName(NAME));
        tell("wait-deleted", "state", "SUCCESS");
        for (String suffix : List.of("", "-2", "-3", "-lost")) {
            sagemaker.deleteEndpointConfig(r -> r.endpointConfigName(NAME + suffix));
        }
        sagemaker.deleteModel(r -> r.modelName(NAME));
        refused("gone", "kind", "endpoint", this::describe);
        refused("gone", "kind", "config", () -> sagemaker.describeEndpointConfig(r -> r.endpointConfigName(NAME)));
        refused("gone", "kind", "model", () -> sagemaker.describeModel(r -> r.modelName(NAME)));
    }
}
